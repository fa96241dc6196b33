"""Brings a release from an assignment to the point where it runs."""
