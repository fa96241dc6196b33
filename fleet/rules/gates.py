"""Whether a measured value keeps a rollout's limit; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Verdict(StrEnum):
    """What a gate answers; only PASS lets a stage end."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"


@dataclass(frozen=True)
class GateLimits:
    """What a gate demands: a value at most `threshold`, from enough devices and samples."""

    threshold: float
    min_devices: int = 1
    min_samples: int = 0
    max_age: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class Evidence:
    """One measurement, in the metric's own unit; larger is worse.

    Attributes:
        value: the point estimate; None when it could not be computed.
        devices: how many devices it rests on; they are the unit, not the records.
        lower: lower confidence bound, or None when the measurement carries none.
    """

    value: float | None
    devices: int
    samples: int
    at: datetime
    lower: float | None = None


def evaluate_gate(limits: GateLimits, evidence: Evidence | None, now: datetime) -> Verdict:
    """The gate's answer.

    NO_DATA without a finite and recent value; INCONCLUSIVE while too few devices or samples
    stand behind it, or when the value is above the threshold but its lower bound is not.
    """
    if evidence is None or evidence.value is None or not math.isfinite(evidence.value):
        return Verdict.NO_DATA
    if now - evidence.at > limits.max_age:
        return Verdict.NO_DATA
    if evidence.devices < limits.min_devices or evidence.samples < limits.min_samples:
        return Verdict.INCONCLUSIVE
    if evidence.value <= limits.threshold:
        return Verdict.PASS
    if evidence.lower is not None and evidence.lower <= limits.threshold:
        return Verdict.INCONCLUSIVE
    return Verdict.FAIL
