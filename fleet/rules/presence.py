"""Since when the server could be reached without a gap; pure.

A device that is silent while the server is away has not failed. So the time that it has to answer
is counted from the end of the last outage at the earliest. A jump of the clock looks like an
outage and is treated as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Presence:
    """What the server knows of itself.

    Attributes:
        seen_at: when it last looked.
        counted_from: since when no gap was longer than allowed.
    """

    seen_at: datetime
    counted_from: datetime


def longest_gap(tick: timedelta, offer_timeout: timedelta) -> timedelta:
    """The longest silence that is no outage: three ticks, or up to two minutes."""
    return max(3 * tick, min(timedelta(minutes=2), offer_timeout / 4))


def look(
    before: Presence | None, now: datetime, *, gap: timedelta, heard_at: datetime | None
) -> Presence:
    """The presence after a look at `now`.

    Args:
        gap: the longest silence that is no outage.
        heard_at: when a web process last answered anybody; None when that is not known.
    """
    if before is None or now < before.seen_at or now - before.seen_at > gap:
        return Presence(now, now)
    if heard_at is None or abs(now - heard_at) > gap:
        return Presence(now, now)
    return Presence(now, before.counted_from)
