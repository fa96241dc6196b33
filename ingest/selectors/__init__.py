"""Reads of the app that are more than one query."""
