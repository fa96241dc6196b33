"""Aviary's edge agent: keeps the best verified model running on a device."""

__version__ = "0.1.0"
