"""Addresses below `/api/v1/`."""

from urllib.parse import quote


def model_path(slug: str) -> str:
    """Of a model."""
    return f"models/{quote(slug, safe='')}/"


def version_path(model: str, version: str) -> str:
    """Of a version."""
    return f"{model_path(model)}versions/{quote(version, safe='')}/"
