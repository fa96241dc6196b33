"""The Redis or Valkey that all processes share, for what Django's cache has no words for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.core.cache import cache

if TYPE_CHECKING:
    from redis import Redis


def shared_client() -> Redis | None:
    """Its client; None where each process has a cache of its own."""
    make = getattr(cache, "client", None)
    return None if make is None else cast("Redis", make())


def key_of(name: str) -> str:
    """A name as the cache keeps it: under its prefix and version."""
    return str(cache.make_key(name))
