"""From the counts of a slice's devices to a level per metric.

Too little evidence keeps a metric from being called healthy. It never keeps harm from being found:
a test on few effective records is a weak test, but an honest one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ingest.rules import bins, distances
from ingest.rules.changed_devices import DeviceChange, count_changes
from ingest.rules.clustering import describe_side
from ingest.rules.judgement import (
    CHANGED_DEVICES,
    Judgement,
    Policy,
    Table,
    counts_table,
    missing_evidence,
    side_of,
)
from ingest.rules.laws import Law, MeanLaw, OtherLaw, ShareLaw
from ingest.rules.levels import settle_levels
from ingest.rules.psi_judgement import judge_psi
from ingest.rules.windows import WindowCounts, sum_counts

__all__ = ["Judgement", "Policy", "judge_psi", "judge_slice", "settle_levels"]
MIN_RATE_SAMPLES = 50
FEWEST_CHANGED = 2


def judge_slice(
    name: str,
    reference: Mapping[str, Any] | None,
    feature_suffix: str,
    devices: Sequence[WindowCounts],
    policy: Policy,
    changes: Sequence[DeviceChange] | None = None,
) -> list[Judgement]:
    """All metrics of one slice, tested but not yet given a level (see `settle_levels`).

    Args:
        name: the slice, `all` or `label=value`.
        reference: the baseline's profile; None when there is none. Its `groups`, where it has
            them, are the counts of the devices it was made of.
        feature_suffix: what the windows append to a feature's name for this baseline's edges.
        devices: one entry per device: its counts over the judged period.
        policy: the limits.
        changes: what the devices' own tests say; None where they were not made.
    """
    profile = reference or {}
    groups = [WindowCounts.from_json(group) for group in profile.get("groups") or []]
    judged = [
        *(_judge_classes(profile, devices, policy, groups) if _has(profile, "classes") else []),
        *(_judge_confidence(profile, devices, policy, groups) if _has_both(profile) else []),
        _judge_latency(profile, devices, policy, groups),
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
                reference_groups=[group.features.get(feature["name"], []) for group in groups],
            )
        )
    if changes is not None:
        judged.append(judge_changed_devices(changes, policy))
    return [replace(item, slice=name) for item in judged]


def _has(profile: Mapping[str, Any], what: str) -> bool:
    """False where a release answers without; profiles of before say nothing, and have both."""
    return bool(profile.get(f"has_{what}", True))


def _has_both(profile: Mapping[str, Any]) -> bool:
    return _has(profile, "classes") and _has(profile, "confidence")


def _judge_classes(
    profile: Mapping[str, Any],
    devices: Sequence[WindowCounts],
    policy: Policy,
    groups: Sequence[WindowCounts],
) -> list[Judgement]:
    return [
        judge_psi(
            "prediction_psi",
            (profile.get("class") or {}).get("counts"),
            [device.classes for device in devices],
            policy,
            is_ordered=False,
            labels=[*profile.get("labels", []), "other"],
            reference_groups=[group.classes for group in groups],
        )
    ]


def _judge_confidence(
    profile: Mapping[str, Any],
    devices: Sequence[WindowCounts],
    policy: Policy,
    groups: Sequence[WindowCounts],
) -> list[Judgement]:
    return [
        judge_psi(
            "confidence_psi",
            (profile.get("confidence") or {}).get("counts"),
            [device.confidence for device in devices],
            policy,
            positions=bins.confidence_midpoints(),
            reference_groups=[group.confidence for group in groups],
        ),
        _judge_confidence_drop(profile, devices, policy, groups),
    ]


@dataclass(frozen=True)
class _Mean:
    mean: float
    variance: float
    """Of the mean."""
    df: float
    n_eff: float


def _mean(table: Table, positions: Table) -> _Mean:
    """A mean over records of clustered devices (Cochran 1977, sec. 9A); one row: records alone."""
    totals = table.sum(axis=0)
    n = float(totals.sum())
    mean = float((totals * positions).sum() / n)
    # A bin's width has a variance of its own.
    width = float(positions[1] - positions[0]) if len(positions) > 1 else 0.0
    alone = float((totals * (positions - mean) ** 2).sum() / n) + width**2 / 12
    rows = table[table.sum(axis=1) > 0]
    variance, df = alone / n, max(n - 1, 1.0)
    if len(rows) > 1:
        sums = rows @ positions - rows.sum(axis=1) * mean
        clustered = len(rows) / (len(rows) - 1) * float((sums**2).sum()) / n**2
        variance, df = max(variance, clustered), len(rows) - 1.0
    return _Mean(mean, variance, df, alone / variance)


def _judge_confidence_drop(
    profile: Mapping[str, Any],
    devices: Sequence[WindowCounts],
    policy: Policy,
    groups: Sequence[WindowCounts],
) -> Judgement:
    metric = "confidence_drop"
    reference = (profile.get("confidence") or {}).get("counts")
    n = sum(device.confidence_n for device in devices)
    if not reference or sum(reference) <= 0:
        return Judgement(metric, status="no_reference", n=n, devices=len(devices))
    table = counts_table([device.confidence for device in devices], len(reference))
    table = table[table.sum(axis=1) > 0]
    base = Judgement(
        metric, n=n, n_reference=int(sum(reference)), devices=len(table), bins=len(reference)
    )
    if not len(table):
        return replace(base, details={"reason": "no records"})
    positions = bins.confidence_midpoints()
    now = _mean(table, positions)
    by_group = counts_table([group.confidence for group in groups], len(reference))
    then = _mean(by_group if by_group.sum() else np.asarray([reference], float), positions)
    accuracy = distances.estimate_accuracy(table.sum(axis=0), profile.get("calibration"))
    base = replace(
        base,
        value=then.mean - now.mean,
        n_eff=now.n_eff,
        design_effect=float(table.sum()) / now.n_eff,
        details={"estimated_accuracy": accuracy},
    )
    if len(table) < 2 and policy.min_devices > 1:
        base.details["reason"] = missing_evidence(len(table), now.n_eff, MIN_RATE_SAMPLES, policy)
        return base
    is_enough = len(table) >= policy.min_devices and now.n_eff >= MIN_RATE_SAMPLES
    if not is_enough:
        base.details["reason"] = missing_evidence(len(table), now.n_eff, MIN_RATE_SAMPLES, policy)
    variance = then.variance + now.variance
    # Welch (1947) and Satterthwaite (1946).
    df = variance**2 / (then.variance**2 / then.df + now.variance**2 / now.df)
    margins = (policy.warning_confidence_drop, policy.critical_confidence_drop)
    laws = tuple(MeanLaw(margin, float(np.sqrt(variance)), df) for margin in margins)
    return replace(base, status="tested", laws=(laws[0], laws[1]), is_enough=is_enough)


def _judge_latency(
    profile: Mapping[str, Any],
    devices: Sequence[WindowCounts],
    policy: Policy,
    groups: Sequence[WindowCounts] = (),
) -> Judgement:
    """p95 against the reference's: more than 5 % of latencies above ratio x reference p95."""
    metric = "latency_p95_ratio"
    total = sum_counts(devices)
    reference = {
        int(key): count for key, count in (profile.get("latency") or {}).get("counts", {}).items()
    }
    heard = [device for device in devices if device.latency_n]
    base = Judgement(
        metric,
        n=total.latency_n,
        n_reference=sum(reference.values()),
        devices=len(heard),
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
    # The reference's own error: its 95th percentile lies below this one in 99 of 100 cases.
    split = _above(groups, bins.latency_bin(limit))
    worth = base.n_reference / describe_side(split, split.sum(axis=0)).effect if groups else 0.0
    rank = 0.95 + 2.326 * (0.95 * 0.05 / max(worth or base.n_reference, 1)) ** 0.5
    cautious = bins.latency_quantile_ms(reference, min(rank, 1.0)) or limit
    laws: list[Law] = []
    side = None
    for ratio in (policy.warning_latency_ratio, policy.critical_latency_ratio):
        table = _above(heard, bins.latency_bin(cautious * ratio))
        side = side_of(table)
        share = float(table[:, 0].sum() / total.latency_n)
        laws.append(OtherLaw(ShareLaw(side.n_eff, 0.05), share, ratio))
    assert side is not None
    is_enough = len(heard) >= policy.min_devices and side.n_eff >= 2 * MIN_RATE_SAMPLES
    base = replace(base, value=current / limit, design_effect=side.effect, n_eff=side.n_eff)
    base.details["reference_p95_ms"] = limit
    if not is_enough:
        base.details["reason"] = missing_evidence(
            len(heard), side.n_eff, 2 * MIN_RATE_SAMPLES, policy
        )
    if len(heard) < 2 and policy.min_devices > 1:
        return base
    return replace(base, status="tested", laws=(laws[0], laws[1]), is_enough=is_enough)


def _above(devices: Sequence[WindowCounts], edge: int) -> Table:
    """Latencies above the bin `edge` and not, per device, shape (devices, 2)."""
    rows = []
    for device in devices:
        over = sum(count for index, count in device.latency.items() if index > edge)
        rows.append([over, sum(device.latency.values()) - over])
    return np.asarray(rows, dtype=float).reshape(-1, 2)


def _judge_rate(metric: str, rows: Sequence[tuple[int, int]], policy: Policy) -> Judgement:
    failures, n = sum(row[0] for row in rows), sum(row[1] for row in rows)
    base = Judgement(metric, value=failures / n if n else None, n=n, details={"failures": failures})
    if not n:
        return base
    table = np.array([[f, total - f] for f, total in rows if total], dtype=float)
    side = side_of(table)
    base = replace(base, devices=len(table), design_effect=side.effect, n_eff=side.n_eff)
    is_enough = len(table) >= policy.min_devices and side.n_eff >= MIN_RATE_SAMPLES
    if not is_enough:
        base.details["reason"] = missing_evidence(len(table), side.n_eff, MIN_RATE_SAMPLES, policy)
    if len(table) < 2 and policy.min_devices > 1:
        return base
    laws = (
        ShareLaw(side.n_eff, policy.warning_error_rate),
        ShareLaw(side.n_eff, policy.critical_error_rate),
    )
    return replace(base, status="tested", laws=laws, is_enough=is_enough)


def judge_changed_devices(changes: Sequence[DeviceChange], policy: Policy) -> Judgement:
    """The share of devices that changed, tested exactly against what is tolerated."""
    changed, tested, by_metric = count_changes(changes)
    base = Judgement(
        CHANGED_DEVICES,
        n=tested,
        n_eff=float(tested),
        devices=tested,
        details={"changed": changed, "by_metric": dict(by_metric)},
    )
    if not tested:
        base.details["reason"] = "no device has a past of its own yet"
        return base
    is_enough = tested >= policy.min_devices
    if not is_enough:
        base.details["reason"] = missing_evidence(tested, tested, 0, policy)
    laws: tuple[Law, Law] = (
        ShareLaw(tested, policy.warning_changed_devices),
        ShareLaw(tested, policy.critical_changed_devices),
    )
    if changed < FEWEST_CHANGED and policy.min_devices > 1:
        # What one device meets is told by its own alarms; the fleet has not changed.
        shown = FEWEST_CHANGED / tested
        laws = (OtherLaw(laws[0], 0.0, shown), OtherLaw(laws[1], 0.0, shown))
    return replace(base, status="tested", value=changed / tested, laws=laws, is_enough=is_enough)
