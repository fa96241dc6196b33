"""Admin pages of the app."""

from registry.admin import artifacts, audit, baselines, catalogue, data, versions

__all__ = ["artifacts", "audit", "baselines", "catalogue", "data", "versions"]
