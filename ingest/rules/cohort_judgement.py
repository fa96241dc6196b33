"""Canary devices against control devices: the values that rollout gates are asked to judge.

The unit is the device. The PSI between the cohorts is corrected by what chance alone adds,
(B - 1) k with k on effective sample sizes (Yurdakul 2018), so that few samples do not look like a
change; the uncorrected value, the test's threshold and the permutation p-value travel along.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from ingest.rules import bins, distances
from ingest.rules import psi as drift
from ingest.rules.windows import WindowCounts, sum_counts

PERMUTATION_DEVICES = 2000
_Z_99 = 2.326


@dataclass(frozen=True)
class Evidence:
    """One metric of a canary; `value` is None when there is nothing to say.

    `details["lower"]` is the lower 99 % confidence bound of the value, where there is one.
    """

    metric: str
    value: float | None
    control_value: float | None
    devices: int
    samples: int
    details: dict[str, Any] = field(default_factory=dict)


def compare_cohorts(
    canary: Sequence[WindowCounts],
    control: Sequence[WindowCounts],
    profile: Mapping[str, Any] | None,
    against: str = "control",
) -> list[Evidence]:
    """Evidence for every metric that windows can speak about.

    Args:
        canary: one entry per device that runs the target.
        control: one entry per device of the concurrent control; empty when there is none.
        profile: the target's baseline, the reference where there is no control.
        against: what `control` is, for the record.
    """
    ours, theirs = sum_counts(canary), sum_counts(control)
    against = against if theirs.n else "baseline"
    profile = profile or {}
    class_reference = theirs.classes
    confidence_reference = theirs.confidence
    latency_reference = theirs.latency
    if against == "baseline":
        class_reference = (profile.get("class") or {}).get("counts") or []
        confidence_reference = (profile.get("confidence") or {}).get("counts") or []
        counts = (profile.get("latency") or {}).get("counts") or {}
        latency_reference = {int(key): value for key, value in counts.items()}
    context = {
        "against": against,
        "control_devices": sum(1 for device in control if device.n),
        "control_samples": theirs.n,
    }
    return [
        _psi(canary, control, class_reference, context),
        _confidence(canary, ours, confidence_reference, context),
        _latency(canary, ours, latency_reference, context),
        _rate("error_rate", canary, ours.errors, ours.n, theirs.errors, theirs.n, context),
        _rate(
            "nonfinite_rate", canary, ours.nonfinite, ours.n, theirs.nonfinite, theirs.n, context
        ),
    ]


def _psi(
    canary: Sequence[WindowCounts],
    control: Sequence[WindowCounts],
    reference: Sequence[int],
    context: Mapping[str, Any],
) -> Evidence:
    metric = "prediction_psi"
    width = max([len(reference), *(len(device.classes) for device in canary)], default=0)
    ours = _rows(canary, width)
    samples = int(ours.sum())
    padded = [*reference, *[0] * (width - len(reference))]
    if not samples or not sum(padded):
        return Evidence(metric, None, None, len(ours), samples, dict(context))
    plan = drift.merge_plan(padded, is_ordered=False)
    if max(plan) == 0:
        plan = drift.merge_plan(padded, is_ordered=False, min_share=0.005)
    merged_reference = drift.merge_bins(padded, plan)
    merged = np.array([drift.merge_bins(row, plan) for row in ours])
    effect = drift.design_effect(drift.cluster_moments(merged)) or 1.0
    others = _rows(control, width)
    other_merged = np.array([drift.merge_bins(row, plan) for row in others])
    other_effect = 1.0
    if len(others) and context["against"] != "baseline":
        other_effect = drift.design_effect(drift.cluster_moments(other_merged)) or 1.0
    n_eff, n_reference = samples / effect, sum(padded) / other_effect
    k = drift.sampling_scale(n_reference, n_eff)
    width = len(merged_reference)
    raw = drift.population_stability_index(merged_reference, merged.sum(axis=0))
    details: dict[str, Any] = {
        **context,
        "psi_uncorrected": raw,
        "bins": width,
        "n_eff": n_eff,
        "design_effect": effect,
        "reference": merged_reference.tolist(),
        "current": merged.sum(axis=0).tolist(),
    }
    if width > 1:
        details["lower"] = drift.psi_lower_bound(raw, width, k)
        details["threshold_no_change"] = drift.psi_threshold(width, k, 0.0)
    if len(others) and len(ours) + len(others) <= PERMUTATION_DEVICES:
        details["permutation_p"] = distances.permutation_p_value(
            list(merged), list(other_merged), rounds=199
        )
    value = max(0.0, raw - (width - 1) * k)
    return Evidence(metric, value, None, len(ours), samples, details)


def _rows(devices: Sequence[WindowCounts], width: int) -> np.ndarray[Any, Any]:
    rows = [device.classes for device in devices if sum(device.classes)]
    table = np.zeros((len(rows), width))
    for index, row in enumerate(rows):
        table[index, : min(width, len(row))] = row[:width]
    return table


def _confidence(
    canary: Sequence[WindowCounts],
    ours: WindowCounts,
    reference: Sequence[int],
    context: Mapping[str, Any],
) -> Evidence:
    devices = sum(1 for device in canary if device.confidence_n)
    if not ours.confidence_n or not sum(reference):
        return Evidence("confidence_drop", None, None, devices, ours.confidence_n, dict(context))
    middles = bins.confidence_midpoints()
    drop = distances.mean_drop(
        reference, ours.confidence, middles, sum(reference), ours.confidence_n
    )
    mean = float(np.average(middles, weights=np.asarray(reference, dtype=float)))
    details = {
        **context,
        "standard_error": drop.standard_error,
        "lower": drop.drop - _Z_99 * drop.standard_error,
    }
    return Evidence("confidence_drop", drop.drop, mean, devices, ours.confidence_n, details)


def _latency(
    canary: Sequence[WindowCounts],
    ours: WindowCounts,
    reference: Mapping[int, int],
    context: Mapping[str, Any],
) -> Evidence:
    devices = sum(1 for device in canary if device.latency_n)
    current = bins.latency_quantile_ms(ours.latency, 0.95)
    control = bins.latency_quantile_ms(reference, 0.95)
    value = None if current is None or control is None else current / control
    details = {**context, "p95_ms": current, "control_p95_ms": control}
    if control is not None and ours.latency_n:
        # Order statistics: the quantile that the 95th lies above with 99 % confidence.
        low = 0.95 - _Z_99 * (0.95 * 0.05 / ours.latency_n) ** 0.5
        bound = bins.latency_quantile_ms(ours.latency, max(low, 0.0))
        details["lower"] = (bound or 0.0) / control
    return Evidence("latency_p95_ratio", value, control, devices, ours.latency_n, details)


def _rate(
    metric: str,
    canary: Sequence[WindowCounts],
    failures: int,
    n: int,
    control_failures: int,
    control_n: int,
    context: Mapping[str, Any],
) -> Evidence:
    devices = sum(1 for device in canary if device.n)
    value = failures / n if n else None
    control = control_failures / control_n if control_n else None
    details: dict[str, Any] = {**context, "failures": failures}
    if n:
        # Clopper and Pearson (1934): the exact lower bound of a share.
        low = stats.beta.ppf(0.01, failures, n - failures + 1) if failures else 0.0
        details["lower"] = float(low)
    return Evidence(metric, value, control, devices, n, details)
