"""Admin pages of the app."""

from registry.admin import artifacts, audit, catalogue, data, versions

__all__ = ["artifacts", "audit", "catalogue", "data", "versions"]
