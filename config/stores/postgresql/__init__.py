"""Django's PostgreSQL backend with a deadline on each call."""
