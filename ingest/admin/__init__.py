"""Admin pages of the app."""

from ingest.admin import device_panel, drift, inbox, incidents

__all__ = ["device_panel", "drift", "inbox", "incidents"]
