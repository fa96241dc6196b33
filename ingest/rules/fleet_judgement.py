"""From the counts of a slice's devices to a level per metric; values in, values out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ingest.rules import bins, distances
from ingest.rules import psi as drift
from ingest.rules.windows import WindowCounts, sum_counts

MIN_RATE_SAMPLES = 50


@dataclass(frozen=True)
class Policy:
    """The limits of one model; see the model `DriftPolicy` for each field."""

    rule: str = "equivalence"
    warning_psi: float = drift.WARNING_PSI
    critical_psi: float = drift.CRITICAL_PSI
    warning_confidence_drop: float = 0.05
    critical_confidence_drop: float = 0.10
    warning_error_rate: float = 0.01
    critical_error_rate: float = 0.05
    warning_latency_ratio: float = 1.25
    critical_latency_ratio: float = 2.0
    min_devices: int = 20
    min_samples_per_bin: int = 10
    lookback_windows: int = 4


@dataclass(frozen=True)
class Judgement:
    """One metric of one slice. `p_warning` and `p_critical` are None where nothing was tested."""

    metric: str
    slice: str = "all"
    status: str = "insufficient"
    value: float | None = None
    threshold: float | None = None
    threshold_critical: float | None = None
    lower_bound: float | None = None
    n: int = 0
    n_eff: float = 0.0
    n_reference: int = 0
    devices: int = 0
    design_effect: float | None = None
    bins: int = 0
    p_warning: float | None = None
    p_critical: float | None = None
    q_value: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def judge_slice(
    name: str,
    reference: Mapping[str, Any] | None,
    feature_suffix: str,
    devices: Sequence[WindowCounts],
    policy: Policy,
) -> list[Judgement]:
    """All metrics of one slice, tested but not yet given a level (see `settle_levels`).

    Args:
        name: the slice, `all` or `label=value`.
        reference: the baseline's profile; None when there is none.
        feature_suffix: what the windows append to a feature's name for this baseline's edges.
        devices: one entry per device: its counts over the judged period.
        policy: the limits.
    """
    profile = reference or {}
    judged = [
        judge_psi(
            "prediction_psi",
            (profile.get("class") or {}).get("counts"),
            [device.classes for device in devices],
            policy,
            is_ordered=False,
            labels=[*profile.get("labels", []), "other"],
        ),
        judge_psi(
            "confidence_psi",
            (profile.get("confidence") or {}).get("counts"),
            [device.confidence for device in devices],
            policy,
            positions=bins.confidence_midpoints(),
        ),
        _judge_confidence_drop(profile, devices, policy),
        _judge_latency(profile, devices, policy),
        _judge_rate("error_rate", [(d.errors, d.n) for d in devices], policy),
        _judge_rate("nonfinite_rate", [(d.nonfinite, d.n) for d in devices], policy),
    ]
    for feature in profile.get("features", []):
        key = feature["name"] + feature_suffix
        judged.append(
            judge_psi(
                f"feature_psi:{feature['name']}",
                feature["counts"],
                [device.features.get(key, []) for device in devices],
                policy,
                positions=distances.bin_positions(feature["edges"]),
            )
        )
    return [replace(item, slice=name) for item in judged]


def _table(rows: Sequence[Sequence[int]], width: int) -> np.ndarray[Any, Any]:
    table = np.zeros((len(rows), width))
    for index, row in enumerate(rows):
        table[index, : min(len(row), width)] = row[:width]
    return table


def _effect(table: np.ndarray[Any, Any], policy: Policy) -> tuple[int, float | None]:
    """Devices with counts and their design effect; 1 where a single device is enough."""
    moments = drift.cluster_moments(table)
    effect = drift.design_effect(moments)
    if effect is None and moments.devices and policy.min_devices <= 1:
        effect = 1.0
    return moments.devices, effect


def judge_psi(
    metric: str,
    reference: Sequence[int] | None,
    per_device: Sequence[Sequence[int]],
    policy: Policy,
    is_ordered: bool = True,
    labels: Sequence[str] | None = None,
    positions: np.ndarray[Any, Any] | None = None,
) -> Judgement:
    """The PSI of one metric with its noncentral chi-square test on effective sample sizes."""
    n = int(sum(sum(row) for row in per_device))
    if not reference or sum(reference) <= 0:
        return Judgement(metric, status="no_reference", n=n, devices=len(per_device))
    table = _table(per_device, len(reference))
    plan = drift.merge_plan(reference, is_ordered)
    if max(plan) == 0:  # A reference in almost one bin: a coarser share still shows a move out.
        plan = drift.merge_plan(reference, is_ordered, 0.005)
    merged_reference = drift.merge_bins(reference, plan)
    merged = np.array([drift.merge_bins(row, plan) for row in table])
    current = merged.sum(axis=0) if len(merged) else np.zeros(len(merged_reference))
    devices, effect = _effect(merged, policy) if len(merged) else (0, None)
    width = len(merged_reference)
    totals = table.sum(axis=0) if len(table) else np.zeros(len(reference))
    base = Judgement(
        metric,
        n=n,
        n_reference=int(sum(reference)),
        devices=devices,
        design_effect=effect,
        n_eff=n / effect if effect else 0.0,
        bins=width,
        details={
            "plan": plan,
            "reference": merged_reference.tolist(),
            "current": current.tolist(),
            "labels": list(labels) if labels else None,
        },
    )
    if n == 0 or width < 2:
        reason = "no records" if n == 0 else "the reference lies in one bin"
        return replace(base, details={**base.details, "reason": reason})
    psi = drift.population_stability_index(merged_reference, current)
    base.details.update(
        contributions=drift.psi_contributions(merged_reference, current).tolist(),
        jensen_shannon=distances.jensen_shannon_distance(reference, totals),
        l_infinity=distances.l_infinity(reference, totals),
    )
    if positions is not None:
        base.details["wasserstein_sigma"] = distances.standardised_wasserstein(
            reference, totals, positions
        )
    base = replace(base, value=psi)
    need = policy.min_samples_per_bin * width
    if base.devices < policy.min_devices or effect is None or base.n_eff < need:
        base.details["reason"] = (
            f"{base.devices} of {policy.min_devices} devices, "
            f"{base.n_eff:.0f} of {need} effective samples"
        )
        return base
    if policy.rule == "fixed":
        return replace(
            base,
            status="tested",
            threshold=policy.warning_psi,
            threshold_critical=policy.critical_psi,
            p_warning=0.0 if psi > policy.warning_psi else 1.0,
            p_critical=0.0 if psi > policy.critical_psi else 1.0,
        )
    k = drift.sampling_scale(sum(reference), base.n_eff)
    return replace(
        base,
        status="tested",
        threshold=drift.psi_threshold(width, k, policy.warning_psi),
        threshold_critical=drift.psi_threshold(width, k, policy.critical_psi),
        lower_bound=drift.psi_lower_bound(psi, width, k),
        p_warning=drift.psi_p_value(psi, width, k, policy.warning_psi),
        p_critical=drift.psi_p_value(psi, width, k, policy.critical_psi),
    )


def _judge_confidence_drop(
    profile: Mapping[str, Any], devices: Sequence[WindowCounts], policy: Policy
) -> Judgement:
    metric = "confidence_drop"
    reference = (profile.get("confidence") or {}).get("counts")
    n = sum(device.confidence_n for device in devices)
    if not reference or sum(reference) <= 0:
        return Judgement(metric, status="no_reference", n=n, devices=len(devices))
    table = _table([device.confidence for device in devices], len(reference))
    # Clustering of the mean: as that of the halves around the reference's median.
    half = int(np.searchsorted(np.cumsum(reference), sum(reference) / 2))
    halves = np.column_stack([table[:, :half].sum(axis=1), table[:, half:].sum(axis=1)])
    count, effect = _effect(halves, policy) if n else (0, None)
    n_eff = n / effect if effect else 0.0
    details: dict[str, Any] = {}
    if n:
        accuracy = distances.estimate_accuracy(table.sum(axis=0), profile.get("calibration"))
        details["estimated_accuracy"] = accuracy
    base = Judgement(metric, n=n, n_reference=int(sum(reference)), devices=count, n_eff=n_eff,
                     design_effect=effect, bins=len(reference), details=details)  # fmt: skip
    if not n:
        return base
    drop = distances.mean_drop(
        reference, table.sum(axis=0), bins.confidence_midpoints(), sum(reference), max(n_eff, 1)
    )
    base = replace(base, value=drop.drop)
    if count < policy.min_devices or n_eff < MIN_RATE_SAMPLES:
        details["reason"] = f"{count} of {policy.min_devices} devices, {n_eff:.0f} samples"
        return base
    warning, critical = policy.warning_confidence_drop, policy.critical_confidence_drop
    return replace(
        base,
        status="tested",
        threshold=drop.threshold(warning),
        threshold_critical=drop.threshold(critical),
        p_warning=drop.p_value(warning),
        p_critical=drop.p_value(critical),
    )


def _judge_latency(
    profile: Mapping[str, Any], devices: Sequence[WindowCounts], policy: Policy
) -> Judgement:
    """p95 against the reference's: more than 5 % of latencies above ratio x reference p95."""
    total = sum_counts(devices)
    reference = {
        int(key): count for key, count in (profile.get("latency") or {}).get("counts", {}).items()
    }
    base = Judgement(
        "latency_p95_ratio",
        n=total.latency_n,
        n_reference=sum(reference.values()),
        devices=sum(1 for device in devices if device.latency_n),
        details={
            f"p{round(q * 100)}_ms": bins.latency_quantile_ms(total.latency, q)
            for q in (0.5, 0.95, 0.99)
        },
    )
    limit = bins.latency_quantile_ms(reference, 0.95)
    current = base.details["p95_ms"]
    if limit is None:
        return replace(base, status="no_reference")
    if current is None:
        return base
    tests = []
    effect: float | None = None
    for ratio in (policy.warning_latency_ratio, policy.critical_latency_ratio):
        edge = bins.latency_bin(limit * ratio)
        over = [sum(c for i, c in d.latency.items() if i > edge) for d in devices]
        split = [[o, d.latency_n - o] for o, d in zip(over, devices, strict=True)]
        _, found = _effect(np.array(split, dtype=float), policy)
        effect = found if effect is None else effect
        tests.append(distances.rate_p_value(sum(over), total.latency_n, 0.05, found or 1.0))
    n_eff = total.latency_n / effect if effect else 0.0
    base = replace(base, value=current / limit, design_effect=effect, n_eff=n_eff)
    base.details["reference_p95_ms"] = limit
    if base.devices < policy.min_devices or n_eff < 2 * MIN_RATE_SAMPLES:
        return base
    return replace(
        base,
        status="tested",
        threshold=policy.warning_latency_ratio,
        threshold_critical=policy.critical_latency_ratio,
        p_warning=tests[0],
        p_critical=tests[1],
    )


def _judge_rate(metric: str, rows: Sequence[tuple[int, int]], policy: Policy) -> Judgement:
    failures, n = sum(row[0] for row in rows), sum(row[1] for row in rows)
    devices, effect = (
        _effect(np.array([[f, total - f] for f, total in rows], dtype=float), policy)
        if n
        else (0, None)
    )
    n_eff = n / effect if effect else 0.0
    base = Judgement(metric, value=failures / n if n else None, n=n, n_eff=n_eff, devices=devices,
                     design_effect=effect, details={"failures": failures})  # fmt: skip
    if devices < policy.min_devices or n_eff < MIN_RATE_SAMPLES:
        return base
    delta = effect or 1.0
    return replace(
        base,
        status="tested",
        threshold=policy.warning_error_rate,
        threshold_critical=policy.critical_error_rate,
        p_warning=distances.rate_p_value(failures, n, policy.warning_error_rate, delta),
        p_critical=distances.rate_p_value(failures, n, policy.critical_error_rate, delta),
    )


def settle_levels(judged: Sequence[Judgement]) -> list[Judgement]:
    """Gives each tested judgement its level, holding the false discovery rate at 1 %.

    The family is every tested metric of every slice of one evaluation.
    """
    tested = [index for index, item in enumerate(judged) if item.status == "tested"]
    warning = drift.benjamini_hochberg([judged[i].p_warning or 0.0 for i in tested])
    critical = drift.benjamini_hochberg([judged[i].p_critical or 0.0 for i in tested])
    result = list(judged)
    for index, q_warning, q_critical in zip(tested, warning, critical, strict=True):
        status = "healthy"
        if q_warning < 1 - drift.LEVEL:
            status = "critical" if q_critical < 1 - drift.LEVEL else "warning"
        result[index] = replace(judged[index], status=status, q_value=q_warning)
    return result
