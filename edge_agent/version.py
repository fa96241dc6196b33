"""Which agent this is."""

__version__ = "0.2.0"
RELEASED_ON = "2026-11-25"
"""The day of this version, or one before it. No clock that is right says less."""
