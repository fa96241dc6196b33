"""The management API of drift and incidents."""
