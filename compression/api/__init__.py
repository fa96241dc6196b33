"""Compression's part of the management API."""
