"""Admin pages of compression."""

from compression.admin import jobs

__all__ = ["jobs"]
