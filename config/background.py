"""Whether what runs beside the web server runs: the clock, and the counting of what arrives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.cache import cache

from ingest.models import InboxBatch, Summary

_KEY = "background:clock"
_KEEP_SECONDS = 86_400
TICKS_LATE = 12
"""Ticks without a sign after which the clock, or every worker, counts as stopped."""
INBOX_LATE = timedelta(minutes=5)
"""Age of the oldest batch at which counting has fallen behind."""


@dataclass(frozen=True)
class Background:
    """Ages in seconds.

    Attributes:
        clock_seconds: since a worker last did what the clock sent; None where nobody knows.
        inbox_seconds: of the oldest batch that waits to be counted; 0 without any.
        summaries_seconds: the same of summaries.
    """

    clock_seconds: float | None
    inbox_seconds: float
    summaries_seconds: float

    @property
    def is_clock_dead(self) -> bool:
        late = TICKS_LATE * settings.AVIARY_TICK_SECONDS
        return self.clock_seconds is not None and self.clock_seconds > late

    @property
    def is_inbox_stuck(self) -> bool:
        oldest = max(self.inbox_seconds, self.summaries_seconds)
        return oldest > INBOX_LATE.total_seconds()


def note_tick() -> None:
    """Notes that the clock and a worker run."""
    cache.set(_KEY, time.time(), _KEEP_SECONDS)


def read_background(now: datetime) -> Background:
    """As of `now`; two queries and one look into the cache."""
    ticked = cache.get(_KEY)
    return Background(
        None if ticked is None else max(0.0, now.timestamp() - float(ticked)),
        # What waits after a failed attempt waits on purpose.
        _age(InboxBatch.objects.pending().filter(attempts=0), now),
        _age(Summary.objects.filter(is_pending=True).order_by("id"), now),
    )


def _age(rows: object, now: datetime) -> float:
    oldest = rows.values_list("received_at", flat=True).first()  # type: ignore[attr-defined]
    return max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
