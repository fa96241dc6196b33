"""What a plan can notice with the devices it has, in words, and a plan that can decide; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from fleet.rules.device_changes import MIN_DEVICES
from fleet.rules.failure_rate import devices_to_notice, noticed_rate
from registry.units import write_count

#: With so many canaries beside as many others, gates decided rightly in 98 % of simulated rollouts.
GOOD_CANARIES = 5
CHANCE = 0.9
_SHARES = (5.0, 25.0, 50.0, 100.0)


@dataclass(frozen=True)
class StagePower:
    """What one stage can notice.

    Attributes:
        devices: that it reaches and fits.
        noticed_rate: the smallest failure rate it notices in 90 of 100 cases; None if none.
        twice_the_limit: devices with which it would notice twice the limit; None if too many.
        can_gates_decide: two devices on each side, or two and their own past.
    """

    devices: int
    noticed_rate: float | None
    twice_the_limit: int | None
    can_gates_decide: bool
    words: str


@lru_cache(maxsize=1024)
def find_stage_power(
    devices: int, max_failure_rate: float, success_threshold: float = 0.95
) -> StagePower:
    """The power of a stage that reaches `devices` devices, counted with those before it."""
    counted = min(devices, 500)
    rate = noticed_rate(counted, max_failure_rate, success_threshold, CHANCE)
    twice = min(2 * max_failure_rate, 1.0)
    needed = devices_to_notice(round(twice, 4), max_failure_rate, success_threshold, CHANCE)
    can_decide = devices >= MIN_DEVICES
    return StagePower(
        devices, rate, needed, can_decide, _words(devices, rate, twice, needed, can_decide)
    )


def _words(
    devices: int, rate: float | None, twice: float, needed: int | None, can_decide: bool
) -> str:
    many = write_count(devices, "device")
    if devices == 0:
        return "It reaches no device, so it can notice nothing."
    if rate is None:
        words = f"With {many} it notices no failure rate in nine of ten cases"
    else:
        words = f"With {many} it notices a failure rate of {rate:.0%} in nine of ten cases"
    if needed is not None and needed > devices:
        words += f"; for {twice:.0%} it needs {needed:,}"
    if not can_decide:
        words += f". Its gates cannot answer: they need {MIN_DEVICES} canaries"
    elif devices < GOOD_CANARIES:
        words += f". Its gates decide late; {GOOD_CANARIES} canaries are enough for most"
    return words + "."


def propose_percents(devices: int) -> list[float]:
    """Percentages of stages that can decide in a deployment of `devices` devices.

    The first stage reaches five devices or more and leaves half as control, as far as there are so
    many; larger fleets begin at 5 %.
    """
    if devices <= 0:
        return list(_SHARES)
    # Hashing reaches a few devices more or less than its percentage.
    least = math.ceil(100 * GOOD_CANARIES / devices)
    first = float(min(max(least, _SHARES[0]), 50))
    return [first, *(share for share in _SHARES if share > max(first * 1.5, _SHARES[0]))]
