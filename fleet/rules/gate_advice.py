"""What would decide a gate that is open, in figures and in words; pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from fleet.rules.confidence_sequence import ALPHA, confidence_interval
from fleet.rules.device_changes import Effect
from fleet.rules.own_past import OwnPast
from registry.units import write_count

#: More devices than this are no advice.
MOST_ADVISED = 10_000
_LONGER = np.geomspace(1.25, 1000, 30).tolist()
#: Gates read no older past of a device than this.
LONGEST_PAST = timedelta(days=7)


@dataclass(frozen=True)
class Advice:
    """What would decide a gate if the effect is what it seems; None where it would not.

    Attributes:
        devices: canaries more, with as many control devices more.
        hours: hours of records more from the devices there are.
        past: how many times as long the devices' own past would have to be.
    """

    devices: int | None
    hours: float | None
    past: float | None = None


@dataclass(frozen=True)
class PastSoFar:
    """What own past there is.

    Attributes:
        hours: of records that a canary has from before its change, on average.
        since: hours in which the devices that stay have gathered more of it.
        now: the time of the advice; None leaves clock times out of the words.
    """

    hours: float
    since: float
    now: datetime | None = None


def find_deciding(
    effect: Effect,
    margin: float,
    hours: float,
    past: OwnPast | None = None,
    alpha: float = ALPHA,
) -> Advice:
    """How much more evidence would settle the gate.

    More devices narrow everything; more hours only what the records so far leave open (`within`),
    never how much devices truly differ (`between`) nor what a short past leaves (`fixed`). Nothing
    settles an effect that is the margin itself.

    Args:
        hours: time in which the records so far arrived, > 0.
        past: what the devices' own past is worth, where the effect rests on it and on a control.
    """
    estimate, error = float(effect.estimate), float(effect.error)
    between, within, fixed = (float(x) for x in (effect.between, effect.within, effect.fixed))
    total = max(between + within + fixed, 1e-300)
    gap = abs(margin - estimate)

    def decides(share: float, more_devices: int = 0) -> bool:
        degrees = float(effect.degrees) + more_devices * (2 if effect.controls else 1)
        found = confidence_interval(estimate, error * math.sqrt(share), degrees, margin, alpha)
        return float(found.upper) - estimate <= gap

    def find(steps: list[float], share: Callable[[float], float]) -> float | None:
        return next((step for step in steps if decides(share(step))), None)

    devices = next(
        (more for more in _steps(MOST_ADVISED) if decides(_share(effect.canaries, more), more)),
        None,
    )
    longer = find(_LONGER, lambda times: (between + within / times + fixed) / total)
    older = None
    if past is not None:
        blurred = float(past.leaves())
        # What the past leaves shows partly as a difference between devices.
        rest = max(total - blurred, 0.0)
        older = find(_LONGER, lambda times: min((rest + float(past.leaves(times))) / total, 1.0))
    return Advice(devices, None if longer is None else hours * (longer - 1), older)


def find_until(
    share: float, parts: tuple[float, float, float], canaries: int, hours: float
) -> Advice:
    """What narrows an estimate until `share` of its variance is left, 0 < share < 1.

    Args:
        parts: `between`, `within` and `fixed` of that variance, in any unit.
        hours: time in which the records so far arrived, > 0.
    """
    between, within, fixed = parts
    spare = share * sum(parts)
    devices = math.ceil(canaries * (1 / share - 1))
    longer = within / (spare - between - fixed) if spare > between + fixed else math.inf
    older = fixed / (spare - between - within) if spare > between + within else math.inf
    return Advice(
        devices if devices <= MOST_ADVISED else None,
        hours * (longer - 1) if longer <= _LONGER[-1] else None,
        older if older <= _LONGER[-1] else None,
    )


def _share(canaries: int, more: int) -> float:
    return canaries / (canaries + more)


def _steps(most: int) -> list[int]:
    return sorted({max(1, round(1.3**step)) for step in range(40) if 1.3**step <= most})


def advice_words(advice: Advice, past: PastSoFar | None = None, would: str = "decide") -> str:
    """The advice as a sentence or two; `would` is what more evidence would do."""
    parts = []
    if advice.devices is not None:
        parts.append(f"about {write_count(advice.devices, 'more device')}")
    if advice.hours is not None:
        parts.append(f"about {duration_words(advice.hours)} more of records")
    words = f"{' or '.join(parts)} would {would}" if parts else ""
    # A longer past is no advice where the hours to come do as well.
    if past is not None and advice.past is not None and advice.hours is None:
        words += ("; " if words else "") + _past_words(advice.past, past)
    return words or "the effect is so near the margin that no more evidence would settle it soon"


def _past_words(times: float, past: PastSoFar) -> str:
    """What a longer past would take, from which devices and until when."""
    needed = past.hours * times
    text = (
        f"the canaries' own past is short: {duration_words(past.hours)} of records each before "
        f"the change, and {duration_words(needed)} would be enough"
    )
    if timedelta(hours=needed) > LONGEST_PAST:
        return f"{text}, which is more than the {LONGEST_PAST.days} days that are read"
    wait = needed - past.hours - past.since
    if wait <= 0:
        return (
            f"{text}; the devices that still run the release before have as much: let some follow"
        )
    until = duration_words(wait)
    if past.now is not None:
        until += f" (until {past.now + timedelta(hours=wait):%Y-%m-%d %H:%M} UTC)"
    return (
        f"{text}; theirs grows no more, that of the devices which still run the release before "
        f"does: leave them on it for another {until}, then let some follow"
    )


def duration_words(hours: float) -> str:
    """Hours as people say them: `9 s`, `20 min`, `3.5 h`, `4 days`."""
    if hours < 1 / 30:
        return f"{max(1, math.ceil(hours * 3600))} s"
    if hours < 1:
        return f"{math.ceil(hours * 60)} min"
    if hours < 10:
        return f"{hours:.1f} h"
    return f"{math.ceil(hours)} h" if hours < 72 else f"{math.ceil(hours / 24)} days"
