"""Writes of the app, each in its own transaction."""
