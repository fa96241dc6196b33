"""From the counts of a slice's devices to a level per metric.

Too little evidence keeps a metric from being called healthy. It never keeps harm from being found:
a test on few effective records is a weak test, but an honest one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ingest.rules import bins, distances
from ingest.rules.changed_devices import DeviceChange, count_changes
from ingest.rules.clustering import describe_side
from ingest.rules.clusters import Clusters, clusters_of_rows
from ingest.rules.judgement import (
    CHANGED_DEVICES,
    Judgement,
    Policy,
    Table,
    missing_evidence,
    side_of,
)
from ingest.rules.laws import Law, MeanLaw, OtherLaw, ShareLaw
from ingest.rules.levels import settle_levels
from ingest.rules.psi_judgement import judge_psi
from ingest.rules.windows import WindowCounts

__all__ = ["Judgement", "Policy", "judge_psi", "judge_slice", "settle_levels"]
MIN_RATE_SAMPLES = 50
FEWEST_CHANGED = 2


def judge_slice(
    name: str,
    reference: Mapping[str, Any] | None,
    feature_suffix: str,
    devices: Clusters | Sequence[WindowCounts],
    policy: Policy,
    changes: Sequence[DeviceChange] | None = None,
    only: str | None = None,
    then: Clusters | None = None,
) -> list[Judgement]:
    """All metrics of one slice, tested but not yet given a level (see `settle_levels`).

    Args:
        name: the slice, `all` or `label=value`.
        reference: the baseline's profile; None when there is none. Its `groups`, where it has
            them, are the counts of the devices it was made of.
        feature_suffix: what the windows append to a feature's name for this baseline's edges.
        devices: the counts over the judged period, by device or by random group of devices.
        policy: the limits.
        changes: what the devices' own tests say; None where they were not made.
        only: the one metric that is asked for; None for all.
        then: `reference_groups` of `reference`, for who judges many slices by one.
    """
    profile = reference or {}
    side = _Slice(
        devices if isinstance(devices, Clusters) else clusters_of_rows(devices),
        reference_groups(reference) if then is None else then,
    )
    judges: dict[str, Callable[[], Judgement]] = {}
    if _has(profile, "classes"):
        judges["prediction_psi"] = lambda: _judge_classes(profile, side, policy)
    if _has(profile, "classes") and _has(profile, "confidence"):
        judges["confidence_psi"] = lambda: _judge_confidence(profile, side, policy)
        judges["confidence_drop"] = lambda: _judge_confidence_drop(profile, side, policy)
    judges["latency_p95_ratio"] = lambda: _judge_latency(profile, side, policy)
    judges["error_rate"] = lambda: _judge_rate("error_rate", "errors", side, policy)
    judges["nonfinite_rate"] = lambda: _judge_rate("nonfinite_rate", "nonfinite", side, policy)
    for feature in profile.get("features", []):
        judges[f"feature_psi:{feature['name']}"] = partial(
            _judge_feature, feature, feature_suffix, side, policy
        )
    if changes is not None:
        judges[CHANGED_DEVICES] = lambda: judge_changed_devices(changes, policy)
    chosen = list(judges) if only is None else [metric for metric in judges if metric == only]
    return [replace(judges[metric](), slice=name) for metric in chosen]


def reference_groups(reference: Mapping[str, Any] | None) -> Clusters:
    """The counts of the devices that a reference was made of; no rows where its records stand
    alone."""
    groups = (reference or {}).get("groups") or []
    return clusters_of_rows([WindowCounts.from_json(group) for group in groups])


@dataclass(frozen=True)
class _Slice:
    """The devices of a slice, and those of the reference where it has some."""

    now: Clusters
    then: Clusters

    def heard(self, table: Table) -> int:
        """Devices with records in `table`, one row each; all devices where rows are groups."""
        return self.now.devices if self.now.is_grouped else int((table.sum(axis=1) > 0).sum())

    @property
    def devices(self) -> int | None:
        """How many there are where rows are groups of them."""
        return self.now.devices if self.now.is_grouped else None


def _has(profile: Mapping[str, Any], what: str) -> bool:
    """False where a release answers without; profiles of before say nothing, and have both."""
    return bool(profile.get(f"has_{what}", True))


def _judge_classes(profile: Mapping[str, Any], side: _Slice, policy: Policy) -> Judgement:
    return judge_psi(
        "prediction_psi",
        (profile.get("class") or {}).get("counts"),
        side.now.table("classes"),
        policy,
        is_ordered=False,
        labels=[*profile.get("labels", []), "other"],
        reference_groups=side.then.table("classes"),
        devices=side.devices,
    )


def _judge_confidence(profile: Mapping[str, Any], side: _Slice, policy: Policy) -> Judgement:
    return judge_psi(
        "confidence_psi",
        (profile.get("confidence") or {}).get("counts"),
        side.now.table("confidence"),
        policy,
        positions=bins.confidence_midpoints(),
        reference_groups=side.then.table("confidence"),
        devices=side.devices,
    )


def _judge_feature(
    feature: Mapping[str, Any], suffix: str, side: _Slice, policy: Policy
) -> Judgement:
    name = feature["name"]
    return judge_psi(
        f"feature_psi:{name}",
        feature["counts"],
        side.now.feature(name + suffix),
        policy,
        positions=distances.bin_positions(feature["edges"]),
        reference_groups=side.then.feature(name),
        devices=side.devices,
    )


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


def _judge_confidence_drop(profile: Mapping[str, Any], side: _Slice, policy: Policy) -> Judgement:
    metric = "confidence_drop"
    reference = (profile.get("confidence") or {}).get("counts")
    n = side.now.total("confidence_n")
    if not reference or sum(reference) <= 0:
        heard = len(side.now.ids) if side.devices is None else side.devices
        return Judgement(metric, status="no_reference", n=n, devices=heard)
    table = side.now.table("confidence", len(reference))[:, : len(reference)]
    heard = side.heard(table)
    table = table[table.sum(axis=1) > 0]
    base = Judgement(
        metric, n=n, n_reference=int(sum(reference)), devices=heard, bins=len(reference)
    )
    if not len(table):
        return replace(base, details={"reason": "no records"})
    positions = bins.confidence_midpoints()
    now = _mean(table, positions)
    by_group = side.then.table("confidence", len(reference))[:, : len(reference)]
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
        base.details["reason"] = missing_evidence(heard, now.n_eff, MIN_RATE_SAMPLES, policy)
        return base
    is_enough = heard >= policy.min_devices and now.n_eff >= MIN_RATE_SAMPLES
    if not is_enough:
        base.details["reason"] = missing_evidence(heard, now.n_eff, MIN_RATE_SAMPLES, policy)
    variance = then.variance + now.variance
    # Welch (1947) and Satterthwaite (1946).
    df = variance**2 / (then.variance**2 / then.df + now.variance**2 / now.df)
    margins = (policy.warning_confidence_drop, policy.critical_confidence_drop)
    laws = tuple(MeanLaw(margin, float(np.sqrt(variance)), df) for margin in margins)
    return replace(base, status="tested", laws=(laws[0], laws[1]), is_enough=is_enough)


def _judge_latency(profile: Mapping[str, Any], slice_: _Slice, policy: Policy) -> Judgement:
    """p95 against the reference's: more than 5 % of latencies above ratio x reference p95."""
    metric = "latency_p95_ratio"
    latency, n = slice_.now.latency_counts(), slice_.now.total("latency_n")
    reference = {
        int(key): count for key, count in (profile.get("latency") or {}).get("counts", {}).items()
    }
    rows = int((slice_.now.column("latency_n") > 0).sum())
    heard = rows if slice_.devices is None else slice_.devices
    base = Judgement(
        metric,
        n=n,
        n_reference=sum(reference.values()),
        devices=heard,
        details={
            f"p{round(q * 100)}_ms": bins.latency_quantile_ms(latency, q) for q in (0.5, 0.95, 0.99)
        },
    )
    limit = bins.latency_quantile_ms(reference, 0.95)
    current = base.details["p95_ms"]
    if limit is None:
        return replace(base, status="no_reference")
    if current is None:
        return base
    # The reference's own error: its 95th percentile lies below this one in 99 of 100 cases.
    split = slice_.then.latency_above(bins.latency_bin(limit))
    worth = base.n_reference / describe_side(split, split.sum(axis=0)).effect if len(split) else 0.0
    rank = 0.95 + 2.326 * (0.95 * 0.05 / max(worth or base.n_reference, 1)) ** 0.5
    cautious = bins.latency_quantile_ms(reference, min(rank, 1.0)) or limit
    laws: list[Law] = []
    side = None
    for ratio in (policy.warning_latency_ratio, policy.critical_latency_ratio):
        table = slice_.now.latency_above(bins.latency_bin(cautious * ratio))
        side = side_of(table)
        share = float(table[:, 0].sum() / n)
        laws.append(OtherLaw(ShareLaw(side.n_eff, 0.05), share, ratio))
    assert side is not None
    is_enough = heard >= policy.min_devices and side.n_eff >= 2 * MIN_RATE_SAMPLES
    base = replace(base, value=current / limit, design_effect=side.effect, n_eff=side.n_eff)
    base.details["reference_p95_ms"] = limit
    if not is_enough:
        base.details["reason"] = missing_evidence(heard, side.n_eff, 2 * MIN_RATE_SAMPLES, policy)
    if rows < 2 and policy.min_devices > 1:
        return base
    return replace(base, status="tested", laws=(laws[0], laws[1]), is_enough=is_enough)


def _judge_rate(metric: str, field: str, slice_: _Slice, policy: Policy) -> Judgement:
    failed, records = slice_.now.column(field), slice_.now.column("n")
    failures, n = int(failed.sum()), int(records.sum())
    base = Judgement(metric, value=failures / n if n else None, n=n, details={"failures": failures})
    if not n:
        return base
    table = np.column_stack([failed, records - failed])
    heard = slice_.heard(table)
    table = table[records > 0]
    side = side_of(table)
    base = replace(base, devices=heard, design_effect=side.effect, n_eff=side.n_eff)
    is_enough = heard >= policy.min_devices and side.n_eff >= MIN_RATE_SAMPLES
    if not is_enough:
        base.details["reason"] = missing_evidence(heard, side.n_eff, MIN_RATE_SAMPLES, policy)
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
