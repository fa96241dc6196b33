"""Processes that look at files nobody has vouched for, and the limits they are held to.

`limits` is for the process itself, before it loads anything; `parent` starts it, watches its memory
and ends it with all it has started. Neither knows of Django, the database or any secret.
"""
