"""The registry's part of the persons' API."""
