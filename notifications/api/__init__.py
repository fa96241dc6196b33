"""The management API of notifications, below `/api/v1/`."""
