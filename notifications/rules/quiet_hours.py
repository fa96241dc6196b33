"""When a rule keeps quiet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class QuietHours:
    """A span of each day, by the wall clock of a place; it may pass midnight."""

    start: time
    end: time
    zone: str


def quiet_until(hours: QuietHours | None, now: datetime) -> datetime | None:
    """When the quiet that `now` lies in ends; None when it lies in none.

    The end is by the wall clock: a night in which the clocks change is an hour longer or shorter.
    An end that the clocks skip is taken as the moment after the change.
    """
    if hours is None or hours.start == hours.end:
        return None
    zone = ZoneInfo(hours.zone)
    local = now.astimezone(zone)
    at = local.time()
    passes_midnight = hours.end < hours.start
    is_quiet = (
        at >= hours.start or at < hours.end if passes_midnight else hours.start <= at < hours.end
    )
    if not is_quiet:
        return None
    day = local.date() + timedelta(days=1 if passes_midnight and at >= hours.start else 0)
    ends = datetime.combine(day, hours.end, zone).astimezone(now.tzinfo)
    # Where the clocks go back an hour is there twice: the second one counts.
    if ends <= now:
        ends = datetime.combine(day, hours.end, zone).replace(fold=1).astimezone(now.tzinfo)
    return ends
