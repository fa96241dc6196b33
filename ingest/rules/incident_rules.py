"""When a judgement becomes an incident, and when an incident is over.

Fires after 2 of the last 3 windows breached; resolves after 3 windows in a row below 0.7 of the
threshold; the same incident reopens within 24 hours of its end. A window that could not be judged
neither raises nor calms.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

WINDOWS_KEPT = 3
BREACHES_TO_FIRE = 2
CALM_TO_RESOLVE = 3
CALM_FRACTION = 0.7
REOPEN_WITHIN = timedelta(hours=24)


class Status(StrEnum):
    """Where an incident stands."""

    PENDING = "pending"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    NO_DATA = "no_data"
    RESOLVED = "resolved"
    DROPPED = "dropped"


class Event(StrEnum):
    """What a step changed."""

    OPENED = "opened"
    FIRED = "fired"
    REOPENED = "reopened"
    ESCALATED = "escalated"
    NO_DATA = "no_data"
    DATA_BACK = "data_back"
    RESOLVED = "resolved"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Observation:
    """One window's judgement; `value` is None when there was not enough to judge."""

    value: float | None
    threshold: float
    is_breach: bool
    is_critical: bool = False


@dataclass(frozen=True)
class Track:
    """An incident's memory between windows."""

    status: Status
    recent: tuple[bool, ...] = ()
    calm: int = 0
    is_critical: bool = False
    resolved_at: datetime | None = None
    before_no_data: Status | None = None


def step_alert(
    track: Track | None, seen: Observation, now: datetime
) -> tuple[Track | None, Event | None]:
    """The incident after one more window, and what changed.

    Args:
        track: the latest incident of this key, or None.
        seen: the window's judgement.
        now: the time of the judgement.

    Returns:
        The new track (None: there is still no incident). `Event.OPENED` asks for a new incident.
    """
    if track is None or track.status is Status.DROPPED:
        return _step_without(seen)
    if track.status is Status.RESOLVED:
        return _step_resolved(track, seen, now)
    if seen.value is None:
        if track.status in (Status.FIRING, Status.ACKNOWLEDGED):
            changed = replace(track, status=Status.NO_DATA, before_no_data=track.status)
            return changed, Event.NO_DATA
        return track, None
    if track.status is Status.PENDING:
        return _step_pending(track, seen)
    return _step_active(track, seen, now)


def _step_without(seen: Observation) -> tuple[Track | None, Event | None]:
    if not seen.is_breach:
        return None, None
    return Track(Status.PENDING, (True,), is_critical=seen.is_critical), Event.OPENED


def _remember(track: Track, seen: Observation) -> tuple[bool, ...]:
    return (*track.recent, seen.is_breach)[-WINDOWS_KEPT:]


def _step_pending(track: Track, seen: Observation) -> tuple[Track, Event | None]:
    recent = _remember(track, seen)
    is_critical = track.is_critical or seen.is_critical
    if sum(recent) >= BREACHES_TO_FIRE:
        return Track(Status.FIRING, recent, is_critical=is_critical), Event.FIRED
    if len(recent) == WINDOWS_KEPT and not recent[-1]:
        return Track(Status.DROPPED, recent), Event.DROPPED
    return replace(track, recent=recent, is_critical=is_critical), None


def _step_active(track: Track, seen: Observation, now: datetime) -> tuple[Track, Event | None]:
    status, event = track.status, None
    if status is Status.NO_DATA:
        status, event = track.before_no_data or Status.FIRING, Event.DATA_BACK
    assert seen.value is not None
    is_calm = not seen.is_breach and seen.value < CALM_FRACTION * seen.threshold
    calm = track.calm + 1 if is_calm else 0
    if calm >= CALM_TO_RESOLVE:
        return Track(Status.RESOLVED, calm=calm, resolved_at=now), Event.RESOLVED
    if seen.is_critical and not track.is_critical:
        event = Event.ESCALATED
    changed = replace(
        track,
        status=status,
        recent=_remember(track, seen),
        calm=calm,
        is_critical=track.is_critical or seen.is_critical,
        before_no_data=None,
    )
    return changed, event


def _step_resolved(
    track: Track, seen: Observation, now: datetime
) -> tuple[Track | None, Event | None]:
    if track.resolved_at is None or now - track.resolved_at > REOPEN_WITHIN:
        return _step_without(seen) if seen.is_breach else (track, None)
    if seen.value is None:
        return track, None
    recent = _remember(track, seen)
    if sum(recent) >= BREACHES_TO_FIRE:
        return Track(Status.FIRING, recent, is_critical=seen.is_critical), Event.REOPENED
    return replace(track, recent=recent), None
