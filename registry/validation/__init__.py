"""Looking at files nobody has vouched for, in a limited child process.

Only `parent` may be imported by the server; the other modules run in the child, which knows
nothing of Django, the database or any secret.
"""
