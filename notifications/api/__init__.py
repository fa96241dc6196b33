"""The persons' API of notifications, below `/api/v1/`."""
