"""Measures what compression costs and gains, on models trained from bundled data."""
