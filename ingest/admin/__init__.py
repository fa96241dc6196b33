"""Admin pages of the app."""

from ingest.admin import drift, inbox, incidents

__all__ = ["drift", "inbox", "incidents"]
