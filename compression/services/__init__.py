"""Writes of compression."""
