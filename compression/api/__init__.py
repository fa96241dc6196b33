"""Compression's part of the persons' API."""
