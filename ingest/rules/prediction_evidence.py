"""The evidence that predicted classes give to gates; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet.rules.device_changes import MIN_DEVICES, estimate_effect
from fleet.rules.gate_advice import PastSoFar, advice_words, find_until
from ingest.rules.class_shares import judge_shares, share_changes
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
from ingest.rules.distribution_gate import DistributionAnswer, Look, Side, judge_distribution
from ingest.rules.windows import WindowCounts


def judge_predictions(
    canary: Sequence[DeviceHistory],
    control: Sequence[DeviceHistory],
    profile: Mapping[str, Any] | None,
    threshold: float,
    last: Look,
    hours: float,
    now: datetime | None = None,
) -> Evidence:
    """Evidence of the PSI of predicted classes with the largest change of one class beside it."""
    metric = "prediction_psi"
    width = _width(canary, control)
    reference, ours, theirs = _class_sides(canary, control, width)
    samples = int(ours.after.sum()) if ours is not None else 0
    devices = len(ours.after) if ours is not None else 0
    counts = ((profile or {}).get("class") or {}).get("counts") or []
    if not reference and ours is not None and devices >= MIN_DEVICES and sum(counts):
        # The baseline stands for two control devices of half its rows each.
        reference = BASELINE
        row = np.zeros(width)
        row[: min(width, len(counts))] = np.asarray(counts, dtype=float)[:width]
        ours, theirs = Side(ours.after, None), Side(np.stack([row / 2, row / 2]), None)
    if ours is None or not reference:
        nothing = {"reference": "", "words": too_few_words(len(canary), len(control))}
        return Evidence(metric, None, None, devices, samples, nothing)
    answer = judge_distribution(ours, theirs, threshold, last)
    if answer is None:
        words = "fewer than two classes have enough records to be compared"
        return Evidence(metric, None, None, devices, samples, {"reference": "", "words": words})
    details: dict[str, Any] = {
        "reference": reference,
        "words": REFERENCE_WORDS[reference],
        "control_devices": len(theirs.after) if theirs is not None else 0,
        **_distribution_details(answer, threshold),
    }
    if "upper" not in details and details["lower"] <= threshold:
        details["advice"] = _advice(answer, threshold, ours, theirs, hours, now)
    return Evidence(metric, answer.psi, None, devices, samples, details)


def _distribution_details(answer: DistributionAnswer, threshold: float) -> dict[str, Any]:
    share, look = answer.share, answer.look
    details: dict[str, Any] = {
        "bins": answer.bins,
        "n_eff": answer.n_eff,
        "next_look_n_eff": answer.next_look,
        "look": {
            "number": look.number,
            "passes": look.passes,
            "n_eff": look.n_eff,
            "lower": look.lower,
            "upper": look.upper if math.isfinite(look.upper) else None,
        },
        "expected": answer.expected.round(5).tolist(),
        "current": answer.seen.round(5).tolist(),
        "class": share.class_id,
        "class_change": share.change,
        "class_lower": share.lower,
        "class_upper": share.upper,
        "class_margin": share.margin,
        "failing_classes": list(share.failing[:20]),
        "lower": look.lower,
    }
    if share.failing:
        # A class beyond its margin proves a PSI above the threshold, whatever the last look said.
        details["lower"] = max(look.lower, math.nextafter(threshold, math.inf))
    if answer.is_passing(threshold):
        details["upper"] = look.upper
    return details


def _advice(
    answer: DistributionAnswer,
    threshold: float,
    ours: Side,
    theirs: Side | None,
    hours: float,
    now: datetime | None,
) -> str:
    """When the open question is asked again, and what brings that about."""
    question = "every class" if answer.look.upper <= threshold else "the distribution"
    words = (
        f"{question} is looked at again with {answer.next_look:,.0f} independent records; there "
        f"are {answer.n_eff:,.0f}"
    )
    share = answer.n_eff / answer.next_look
    if not 0 < share < 1:
        return words
    advice = find_until(share, answer.parts, len(ours.after), hours)
    past = None
    if ours.before is not None and theirs is not None:
        pace = float(ours.after.sum(axis=1).mean()) / hours
        past = PastSoFar(float(ours.before.sum(axis=1).mean()) / pace, hours, now)
    return f"{words}: {advice_words(advice, past, would='bring them')}"


def judge_largest_share(
    canary: Sequence[DeviceHistory], control: Sequence[DeviceHistory], margin: float
) -> Evidence:
    """Evidence of the largest change of one class's share."""
    metric = "class_share_change"
    reference, ours, theirs = _class_sides(canary, control, _width(canary, control))
    samples = int(ours.after.sum()) if ours is not None else 0
    devices = len(ours.after) if ours is not None else 0
    effect = None
    if ours is not None and reference:
        effect = estimate_effect(
            share_changes(ours.after, ours.before),
            None if theirs is None else share_changes(theirs.after, theirs.before),
        )
    if effect is None or ours is None:
        nothing = {"reference": "", "words": too_few_words(len(canary), len(control))}
        return Evidence(metric, None, None, devices, samples, nothing)
    seen = ours.after.sum(axis=0) / ours.after.sum()
    limit = np.full(len(seen), margin)
    share = judge_shares(effect, np.clip(seen - effect.estimate, 0, 1), limit, limit)
    details: dict[str, Any] = {
        "reference": reference,
        "words": REFERENCE_WORDS[reference],
        "class": share.class_id,
        "class_change": share.change,
        "failing_classes": list(share.failing[:20]),
        "lower": share.lower,
        "control_devices": len(theirs.after) if theirs is not None else 0,
    }
    if share.is_within:
        details["upper"] = min(share.upper, margin)
    return Evidence(metric, abs(share.change), None, devices, samples, details)


def _width(canary: Sequence[DeviceHistory], control: Sequence[DeviceHistory]) -> int:
    counts = [part for device in (*canary, *control) for part in (device.after, device.before)]
    return max((len(part.classes) for part in counts if part is not None), default=0)


def _class_sides(
    canary: Sequence[DeviceHistory], control: Sequence[DeviceHistory], width: int
) -> tuple[str, Side | None, Side | None]:
    """The reference, or none, and both sides' counts by class."""
    ours = [device for device in canary if any(device.after.classes)]
    theirs = [device for device in control if any(device.after.classes)]
    ours_past = [d for d in ours if d.before is not None and any(d.before.classes)]
    theirs_past = [d for d in theirs if d.before is not None and any(d.before.classes)]
    if not ours:
        return "", None, None

    def side(devices: Sequence[DeviceHistory], with_past: bool) -> Side:
        after = _table([device.after for device in devices], width)
        past = [device.before for device in devices if device.before is not None]
        return Side(after, _table(past, width) if with_past else None)

    has_past = len(ours_past) >= max(MIN_DEVICES, len(ours) / 2)
    if has_past and len(theirs_past) >= MIN_DEVICES:
        return PAST_AND_CONTROL, side(ours_past, True), side(theirs_past, True)
    if len(ours) >= MIN_DEVICES and len(theirs) >= MIN_DEVICES:
        return CONTROL, side(ours, False), side(theirs, False)
    if has_past:
        return PAST, side(ours_past, True), None
    return "", side(ours, False), None


def _table(counts: Sequence[WindowCounts], width: int) -> NDArray[np.float64]:
    table = np.zeros((len(counts), width))
    for index, part in enumerate(counts):
        table[index, : len(part.classes)] = part.classes
    return table
