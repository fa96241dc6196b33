"""Whether a measured effect keeps a rollout's margin; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.rules.failure_rate import is_rate_exceeded


class Verdict(StrEnum):
    """What a gate answers; only PASS lets a stage end."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"


@dataclass(frozen=True)
class GateLimits:
    """What a gate demands: an effect of at most `threshold`, known from evidence of `max_age`.

    `min_devices` and `min_samples` are what a person asks for on top; 0 leaves it to the interval.
    """

    threshold: float
    min_devices: int = 0
    min_samples: int = 0
    max_age: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class Evidence:
    """One measurement, in the metric's own unit; larger is worse.

    Attributes:
        value: the point estimate; None when it could not be computed.
        devices: how many devices it rests on; they are the unit, not the records.
        lower, upper: where the effect lies, by an interval that holds at every look; both None for
            a value that is given as exact.
    """

    value: float | None
    devices: int
    samples: int
    at: datetime
    lower: float | None = None
    upper: float | None = None


def judge_interval(lower: float, upper: float, margin: float) -> Verdict:
    """FAIL when the effect is above the margin, PASS when it is at or below it, for certain."""
    if lower > margin:
        return Verdict.FAIL
    return Verdict.PASS if upper <= margin else Verdict.INCONCLUSIVE


def evaluate_gate(limits: GateLimits, evidence: Evidence | None, now: datetime) -> Verdict:
    """The gate's answer.

    NO_DATA without a finite and recent value; INCONCLUSIVE while the interval holds the threshold,
    or fewer devices or samples stand behind it than a person asked for.
    """
    if evidence is None or evidence.value is None or not math.isfinite(evidence.value):
        return Verdict.NO_DATA
    if now - evidence.at > limits.max_age:
        return Verdict.NO_DATA
    lower = evidence.value if evidence.lower is None else evidence.lower
    # An interval that is open above is written without its end.
    is_exact = evidence.lower is None and evidence.upper is None
    upper = evidence.upper if evidence.upper is not None else math.inf
    verdict = judge_interval(lower, evidence.value if is_exact else upper, limits.threshold)
    too_few = evidence.devices < limits.min_devices or evidence.samples < limits.min_samples
    return Verdict.INCONCLUSIVE if too_few else verdict


def judge_installs(failed: int, finished: int, limit: float) -> Verdict:
    """FAIL on evidence of 20 to 1 that more than `limit` of all devices fail to install.

    A few devices cannot prove the opposite, so without that evidence it passes; what it could have
    noticed is said beside it (`failure_rate.noticed_rate`).
    """
    if finished <= 0:
        return Verdict.NO_DATA
    is_exceeded = is_rate_exceeded(failed, finished - failed, limit)
    return Verdict.FAIL if is_exceeded else Verdict.PASS
