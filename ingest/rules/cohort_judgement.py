"""What the canaries' counts say beside their reference: the evidence of each gate; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from fleet.rules.confidence_sequence import ALPHA, confidence_interval
from fleet.rules.device_changes import MIN_DEVICES, Changes, Effect, estimate_effect
from fleet.rules.gate_advice import PastSoFar, advice_words, find_deciding
from fleet.rules.own_past import OwnPast, weigh_past
from ingest.rules.cohort_evidence import (
    BASELINE,
    CONTROL,
    PAST,
    PAST_AND_CONTROL,
    REFERENCE_WORDS,
    DeviceHistory,
    Evidence,
    too_few_words,
)
from ingest.rules.device_means import MEASURES, DeviceMean, Measure, Scale, rate_variance
from ingest.rules.distribution_gate import NO_LOOK, Look
from ingest.rules.prediction_evidence import judge_largest_share, judge_predictions


@dataclass(frozen=True)
class Pair:
    """A device's two numbers, of which `before` may be missing."""

    after: DeviceMean
    before: DeviceMean | None
    hardware: str = ""


@dataclass(frozen=True)
class _Sides:
    reference: str
    canary: Sequence[Pair]
    control: Sequence[Pair]


def judge_cohorts(
    canary: Sequence[DeviceHistory],
    control: Sequence[DeviceHistory],
    profile: Mapping[str, Any] | None,
    margins: Mapping[str, float],
    hours: float,
    looks: Mapping[str, Look] | None = None,
    now: datetime | None = None,
) -> list[Evidence]:
    """Evidence for each metric of `margins` that windows can speak about.

    Args:
        canary, control: devices that run the target, and devices that stay.
        profile: the target's baseline, the reference where there is no other.
        margins: metric to the gate's threshold, in the metric's unit.
        hours: how long the stage has run, for what would decide.
        looks: metric to the last look at a distribution.
        now: the time, for what would decide.
    """
    found = []
    for metric, margin in margins.items():
        if metric == "prediction_psi":
            look = (looks or {}).get(metric, NO_LOOK)
            found.append(judge_predictions(canary, control, profile, margin, look, hours, now))
        elif metric == "class_share_change":
            found.append(judge_largest_share(canary, control, margin))
        elif metric in MEASURES:
            measure = MEASURES[metric]
            ours, theirs = _pairs(canary, measure), _pairs(control, measure)
            baseline = measure.baseline(profile or {})
            found.append(
                judge_means(metric, measure.scale, ours, theirs, margin, hours, baseline, now)
            )
    return found


def judge_means(
    metric: str,
    scale: Scale,
    canary: Sequence[Pair],
    control: Sequence[Pair],
    margin: float,
    hours: float,
    baseline: float | None = None,
    now: datetime | None = None,
) -> Evidence:
    """Evidence from one number a device.

    Where the metric is told apart by hardware class, each class with two devices a side is judged
    on its own: it fails when one class fails (Bonferroni), and passes when every class passes.
    """
    samples = sum(pair.after.n for pair in canary)
    groups = _by_hardware(canary, control) if scale.is_by_hardware else {"": (canary, control)}
    goal = math.log(margin) if scale.is_ratio else margin
    judged = []
    for hardware, (ours, theirs) in groups.items():
        sides = _choose_sides(ours, theirs, baseline)
        if sides is None:
            continue
        past = _own_past(sides, scale)
        effect = _effect(sides, scale, baseline, past)
        if effect is None:
            continue
        strict = confidence_interval(
            effect.estimate, effect.error, effect.degrees, goal, ALPHA / len(groups)
        )
        plain = confidence_interval(effect.estimate, effect.error, effect.degrees, goal)
        judged.append((float(strict.lower), float(plain.upper), hardware, sides, effect, past))
    if not judged:
        nothing = {"reference": "", "words": too_few_words(len(canary), len(control))}
        return Evidence(metric, None, None, len(canary), samples, nothing)
    # What is beyond its margin for certain speaks first, then what is least certain to be within.
    lower, upper, hardware, sides, effect, past = max(
        judged, key=lambda row: (row[0] > goal, row[0] if row[0] > goal else row[1])
    )
    back: Callable[[float], float] = math.exp if scale.is_ratio else float
    details: dict[str, Any] = {
        "lower": back(lower),
        "upper": back(min(upper, 700.0)),
        "reference": sides.reference,
        "words": REFERENCE_WORDS[sides.reference],
        "control_devices": len(sides.control),
        "canary_now": back(_mean([pair.after.mean for pair in sides.canary])),
        "between_devices": math.sqrt(float(effect.between)),
    }
    if hardware:
        details["hardware"] = hardware
    if lower <= goal < upper:
        advice = find_deciding(effect, goal, hours, past)
        details["advice"] = advice_words(advice, _past_so_far(sides, hours, now))
    if past is not None:
        details["trust_in_past"] = round(float(past.trust), 3)
    control_value = None
    if sides.control:
        control_value = back(_mean([pair.after.mean for pair in sides.control]))
    elif sides.reference == PAST:
        control_value = back(_mean([pair.before.mean for pair in sides.canary if pair.before]))
    elif baseline is not None:
        control_value = back(baseline)
    devices = len({id(pair) for row in judged for pair in row[3].canary})
    return Evidence(metric, back(float(effect.estimate)), control_value, devices, samples, details)


def _pairs(devices: Sequence[DeviceHistory], measure: Measure) -> list[Pair]:
    pairs = (_pair(device, measure) for device in devices)
    return [pair for pair in pairs if pair is not None]


def _pair(device: DeviceHistory, measure: Measure) -> Pair | None:
    after = measure.read(device.after)
    if after is None:
        return None
    before = measure.read(device.before) if device.before is not None else None
    return Pair(after, before, device.hardware)


def _by_hardware(
    canary: Sequence[Pair], control: Sequence[Pair]
) -> dict[str, tuple[list[Pair], list[Pair]]]:
    """Hardware classes with two canaries, the others together; all together when none has."""
    groups: dict[str, tuple[list[Pair], list[Pair]]] = {}
    for side, pairs in enumerate((canary, control)):
        for pair in pairs:
            groups.setdefault(pair.hardware, ([], []))[side].append(pair)
    large = {
        name: sides
        for name, sides in groups.items()
        if all(len(side) >= MIN_DEVICES for side in sides) or (len(sides[0]) >= 2 and not control)
    }
    rest: tuple[list[Pair], list[Pair]] = ([], [])
    for name, sides in groups.items():
        if name not in large:
            rest[0].extend(sides[0])
            rest[1].extend(sides[1])
    if not large:
        return {"": (list(canary), list(control))}
    if len(rest[0]) >= MIN_DEVICES and (len(rest[1]) >= MIN_DEVICES or not control):
        large["other hardware"] = rest
    return large


def _choose_sides(
    canary: Sequence[Pair], control: Sequence[Pair], baseline: float | None
) -> _Sides | None:
    ours = [pair for pair in canary if pair.before is not None]
    theirs = [pair for pair in control if pair.before is not None]
    has_past = len(ours) >= max(MIN_DEVICES, len(canary) / 2)
    if has_past and len(theirs) >= MIN_DEVICES:
        return _Sides(PAST_AND_CONTROL, ours, theirs)
    if len(canary) >= MIN_DEVICES and len(control) >= MIN_DEVICES:
        return _Sides(CONTROL, canary, control)
    if has_past:
        return _Sides(PAST, ours, [])
    if baseline is not None and len(canary) >= MIN_DEVICES:
        return _Sides(BASELINE, canary, [])
    return None


def _own_past(sides: _Sides, scale: Scale) -> OwnPast | None:
    """What own pasts are worth where there is a control too; else None, and they count in full."""
    if sides.reference != PAST_AND_CONTROL:
        return None
    return weigh_past([_pasts(side, scale) for side in (sides.canary, sides.control)])


def _past_so_far(sides: _Sides, hours: float, now: datetime | None) -> PastSoFar | None:
    """How long the canaries' past is, by the pace at which they send now."""
    if sides.reference != PAST_AND_CONTROL:
        return None
    before = _mean([pair.before.n for pair in sides.canary if pair.before])
    pace = _mean([pair.after.n for pair in sides.canary]) / hours
    return PastSoFar(before / pace, hours, now)


def _effect(
    sides: _Sides, scale: Scale, baseline: float | None, past: OwnPast | None
) -> Effect | None:
    trust = 1.0 if sides.reference == PAST else 0.0 if past is None else float(past.trust)
    made = [_changes(side, scale, trust) for side in (sides.canary, sides.control) if side]
    shift = baseline if sides.reference == BASELINE and baseline is not None else 0.0
    first = replace(made[0], values=scale.sign * (made[0].values - shift))
    if len(made) == 1:
        return estimate_effect(first, None)
    return estimate_effect(first, replace(made[1], values=scale.sign * made[1].values))


def _changes(pairs: Sequence[Pair], scale: Scale, trust: float) -> Changes:
    """y of each device, with `trust` of its own past taken off."""
    now = _describe([pair.after for pair in pairs], scale)
    if not trust:
        return now
    past = _pasts(pairs, scale)
    fixed = trust**2 * past.variances
    return Changes(now.values - trust * past.values, now.variances + fixed, fixed)


def _pasts(pairs: Sequence[Pair], scale: Scale) -> Changes:
    return _describe([pair.before for pair in pairs if pair.before is not None], scale)


def _describe(means: Sequence[DeviceMean], scale: Scale) -> Changes:
    variances = np.array([mean.variance for mean in means])
    if scale.is_rate:
        # One device without a failure is not certain to have none: all of a side speak for it.
        variances = rate_variance(means) / np.array([float(mean.n) for mean in means])
    return Changes(np.array([mean.mean for mean in means]), np.maximum(variances, 1e-12))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
