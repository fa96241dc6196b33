"""The registry's pages of the admin."""

from registry.admin import audit, catalogue, data, versions

__all__ = ["audit", "catalogue", "data", "versions"]
