"""Looking at files nobody has vouched for, in a limited child process.

The server imports `parent` alone; the other modules run in the child, which knows nothing of
Django, the database or any secret.
"""
