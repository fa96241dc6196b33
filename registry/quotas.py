"""How often one caller may do one thing in a minute.

Counted in the cache, for all processes together; while the cache does not answer, each process
counts for itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.cache import cache

from registry.exceptions import AviaryError

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
_MOST_LOCAL = 10_000


class QuotaError(AviaryError):
    """This was done more often than it may be; the same request may succeed later."""

    code = "throttled"
    http_status = 429

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, {"retry_after_s": retry_after_s})
        self.retry_after_s = retry_after_s


class _LocalCounts:
    """Counts of this process, of the callers seen last."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, key: str) -> int:
        with self._lock:
            count = self._counts.pop(key, 0) + 1
            self._counts[key] = count
            while len(self._counts) > _MOST_LOCAL:
                self._counts.popitem(last=False)
            return count


_local = _LocalCounts()


def take_quota(kind: str, who: object) -> None:
    """Counts one call.

    Args:
        kind: a key of `settings.AVIARY_QUOTAS`; 0 there is no limit.
        who: the device or address that calls.

    Raises:
        QuotaError: it is one too many in this minute.
    """
    for error in take_quotas(kind, [who]):
        if error is not None:
            raise error


def take_quotas(kind: str, callers: Sequence[object]) -> list[QuotaError | None]:
    """Counts one call of each of `callers`, one round trip for all; the error of each that is one
    too many."""
    most = settings.AVIARY_QUOTAS[kind]
    if not most:
        return [None] * len(callers)
    now = time.time()
    minute = int(now // WINDOW_SECONDS)
    wait = int(WINDOW_SECONDS - now % WINDOW_SECONDS) + 1
    words = f"At most {most} calls of the kind {kind} are taken in a minute."
    counts = _count([f"quota:{kind}:{who}:{minute}" for who in callers])
    return [QuotaError(words, retry_after_s=wait) if count > most else None for count in counts]


def caller_address(meta: Mapping[str, Any]) -> str:
    """The address that a call came from.

    Behind `AVIARY_TRUSTED_PROXIES` proxies it is the one that the outermost of them saw; what
    stands further left in `X-Forwarded-For` anybody may have written.
    """
    depth = settings.AVIARY_TRUSTED_PROXIES
    named = [part.strip() for part in str(meta.get("HTTP_X_FORWARDED_FOR", "")).split(",")]
    if depth and len(named) >= depth and named[-depth]:
        return str(named[-depth])[:64]
    return str(meta.get("REMOTE_ADDR", ""))[:64]


def _count(keys: Sequence[str]) -> list[int]:
    try:
        count_together = getattr(cache, "count_together", None)
        if count_together is not None:
            counts: list[int] = count_together(keys, 2 * WINDOW_SECONDS)
            return counts
        return [
            1 if cache.add(key, 1, 2 * WINDOW_SECONDS) else int(cache.incr(key)) for key in keys
        ]
    except Exception:
        logger.info("The quota is counted in this process", exc_info=True)
        return [_local.add(key) for key in keys]
