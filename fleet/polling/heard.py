"""That web processes answer, noted in the cache for those who count devices' silence."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from django.core.cache import cache

from fleet.polling.poll_notes import has_shared_cache

logger = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
KEEP_SECONDS = 3600
_KEY = "fleet:web:heard"
_next_mark = 0.0
_is_heard = False


def note_heard() -> None:
    """Notes that this web process answers a call; `send_mark` tells the others."""
    global _is_heard
    _is_heard = True


def send_mark() -> None:
    """Writes what was noted to the cache; at most once in five seconds."""
    global _next_mark, _is_heard
    if not _is_heard or time.monotonic() < _next_mark:
        return
    _next_mark, _is_heard = time.monotonic() + EVERY_SECONDS, False
    try:
        cache.set(_KEY, time.time(), KEEP_SECONDS)
    except Exception:
        logger.warning("That the web process answers could not be noted", exc_info=True)


def last_heard(now: datetime) -> datetime | None:
    """When a web process last answered; None when nobody knows.

    Without a cache that processes share nothing can be known, and `now` is taken.
    """
    if not has_shared_cache():
        return now
    try:
        at = cache.get(_KEY)
    except Exception:
        logger.warning("When a web process last answered could not be read", exc_info=True)
        return None
    return None if at is None else datetime.fromtimestamp(at, UTC)
