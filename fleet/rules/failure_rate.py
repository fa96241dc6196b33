"""Evidence that too many devices fail, and what a plan can notice with the devices it has; pure.

Devices finish one after the other, and a rule that compares "failed / finished" with its limit
after each of them is wrong sooner or later: at half the limit it ends a third of all rollouts. The
e-value may be looked at after every device.

Sources: mixture likelihood ratio: Robbins, Ann. Math. Statist. 41 (1970); rejecting at 1/α whenever
one looks: Ville (1939); e-values: Ramdas, Grünwald, Vovk and Shafer, Statist. Sci. 38 (2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import betainc, betaln

#: Evidence of 20 to 1: a rollout within its limit is ended in at most 5 % of cases, for ever.
E_VALUE_LIMIT = 20.0
#: Rates above this multiple of the limit need no prior of their own to be found at once.
WIDEST = 25.0
#: Devices up to which power is looked for; beyond it a plan notices what a person would, too.
MOST_DEVICES = 2_000


def failure_e_value(failed: int, succeeded: int, limit: float) -> float:
    """Evidence against "the failure rate is at most `limit`"; may be looked at after any device.

    A mixture likelihood ratio against p = limit, the mixture being uniform over rates from the
    limit to `WIDEST` times the limit (at most 1), so that it is a supermartingale for every rate up
    to the limit.
    """
    if limit >= 1:
        return 0.0
    if failed <= 0:
        return 1.0
    if limit <= 0:
        return math.inf
    a, b = failed + 1.0, succeeded + 1.0
    highest = min(1.0, WIDEST * limit)
    # 1 − I_x(a, b) = I_{1−x}(b, a), which keeps its precision near one.
    mass = float(betainc(b, a, 1 - limit) - betainc(b, a, 1 - highest))
    if mass <= 0:
        return 0.0
    log_e = (
        float(betaln(a, b))
        + math.log(mass)
        - math.log(highest - limit)
        - failed * math.log(limit)
        - succeeded * math.log1p(-limit)
    )
    return math.exp(min(log_e, 700.0))


def is_rate_exceeded(failed: int, succeeded: int, limit: float) -> bool:
    """True when the e-value says that the failure rate is above `limit`.

    One failed device is one device's trouble, and says nothing of a rate.
    """
    return failed >= 2 and failure_e_value(failed, succeeded, limit) >= E_VALUE_LIMIT


@lru_cache(maxsize=256)
def failures_that_stop(limit: float, devices: int) -> tuple[int, ...]:
    """For 0 … `devices` finished devices, the least number of failures that ends the rollout.

    Where no number of failures does, the entry is the number of finished devices and one more.
    """
    least = [1]
    failed = 0
    for finished in range(1, devices + 1):
        # Evidence falls with each success, so the least number never falls.
        while failed <= finished and not is_rate_exceeded(failed, finished - failed, limit):
            failed += 1
        least.append(failed)
    return tuple(least)


@dataclass(frozen=True)
class Power:
    """The chance that a stage notices a failure rate.

    Attributes:
        stops: that the evidence ends the rollout.
        holds: that it ends it, or too few devices succeed for the stage to end.
    """

    stops: float
    holds: float


def find_power(
    rate: float, devices: int, limit: float, success_threshold: float | None = None
) -> Power:
    """What `devices` finished devices notice of a true failure `rate`; exact.

    The number of failures after each device is followed over all outcomes that go on (a binomial
    walk with an absorbing boundary).
    """
    going = np.array([1.0])
    stopped = 0.0
    least = failures_that_stop(round(limit, 6), devices)
    for finished in range(1, devices + 1):
        going = np.append(going * (1 - rate), 0.0) + np.append(0.0, going * rate)
        stopped += float(going[least[finished] :].sum())
        going[least[finished] :] = 0.0
    held = stopped
    if success_threshold is not None and devices:
        failed = np.arange(len(going))
        held += float(going[(devices - failed) / devices < success_threshold].sum())
    return Power(min(stopped, 1.0), min(held, 1.0))


def noticed_rate(
    devices: int, limit: float, success_threshold: float | None = None, chance: float = 0.9
) -> float | None:
    """The smallest failure rate, in steps of 1 %, noticed with `chance`; None if none is."""
    if devices < 1:
        return None
    low, high = 0, 100
    if find_power(1.0, devices, limit, success_threshold).holds < chance:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if find_power(middle / 100, devices, limit, success_threshold).holds >= chance:
            high = middle
        else:
            low = middle
    return high / 100


@lru_cache(maxsize=256)
def devices_to_notice(
    rate: float, limit: float, success_threshold: float | None = None, chance: float = 0.9
) -> int | None:
    """Devices with which a failure rate of `rate` is noticed with `chance`.

    None when more than `MOST_DEVICES` would be needed, as for a rate within the limit.
    """
    low, high = 0, 1
    while find_power(rate, high, limit, success_threshold).holds < chance:
        low, high = high, high * 2
        if high > MOST_DEVICES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if find_power(rate, middle, limit, success_threshold).holds >= chance:
            high = middle
        else:
            low = middle
    return high
