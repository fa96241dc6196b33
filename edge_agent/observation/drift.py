"""Drift on the device: recent records against the release's baseline, with exponential forgetting.

Population stability index over the baseline's bins: PSI = sum (q - p) ln(q / p). The server decides
with many devices together; this only finds early what one of them meets. Its metrics and states
have the words of the server's drift pages.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from edge_agent.config import DriftConfig

CONFIDENCE_BINS = 8
REFERENCE_FLOOR = 1e-3
PRIOR = 0.5
"""Half a record added to each bin (Jeffreys), so that an empty bin is not infinitely far."""
FAR_STD = 4.0
"""Standard deviations that a single value may count for: a few wild ones must not move a mean."""
CHECK_RECORDS = 20
"""New records between two looks."""


class Metric(NamedTuple):
    """A value beside the two thresholds that keep it from flapping."""

    value: float
    threshold: float
    resolves_below: float

    @property
    def severity(self) -> float:
        """In units of its threshold, so that one of several is the worst."""
        return self.value / self.threshold

    def as_row(self) -> dict[str, float]:
        return {name: round(number, 4) for name, number in self._asdict().items()}


class Change(NamedTuple):
    """Drift that begins or ends, by its worst metric."""

    is_firing: bool
    metric: str
    value: float
    threshold: float


class DriftMonitor:
    """Running distances of confidence, class mix, features and latency from a baseline profile."""

    def __init__(self, baseline: dict[str, Any], config: DriftConfig) -> None:
        """`baseline` is a profile of schema `aviary.baseline/1`."""
        self.config = config
        self._lock = threading.Lock()
        self._decay = 0.5 ** (1.0 / config.half_life_records)
        self._weight = 0.0
        self._latency_weight = 0.0
        self.count = 0
        self._timed = 0
        self._checked_at_s = float("-inf")
        self._checked_count = 0
        self._streak = 0
        confidence = np.asarray(baseline["confidence"]["counts"], dtype=np.float64)
        grouped = confidence.reshape(CONFIDENCE_BINS, -1).sum(axis=1)
        self._reference = {
            "confidence_psi": grouped,
            "prediction_psi": np.asarray(baseline["class"]["counts"], dtype=np.float64),
        }
        self._features = []
        self._moments: dict[str, tuple[float, float]] = {}
        self._sums: dict[str, float] = {}
        self._latency_first = 0.0
        self._latency_sum = 0.0
        for feature in baseline.get("features") or []:
            edges, counts = coarsen(feature["edges"], feature["counts"], keep=8)
            self._features.append((feature["name"], edges))
            self._reference[f"feature_psi:{feature['name']}"] = counts
            self._moments[feature["name"]] = moments_of(feature["edges"], feature["counts"])
        self._recent = {name: np.zeros_like(row) for name, row in self._reference.items()}

    def add(
        self,
        class_id: int,
        confidence: float,
        features: Sequence[float],
        latency_ms: float = 0.0,
    ) -> None:
        """Counts one record; `features` in the baseline's order, missing ones left out, and a
        latency of 0 for an answer that the model did not compute."""
        with self._lock:
            self._add_latency(latency_ms)
            for name in self._sums:
                self._sums[name] *= self._decay
            for counts in self._recent.values():
                counts *= self._decay
            self._weight = self._weight * self._decay + 1.0
            self.count += 1
            slot = min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)
            self._recent["confidence_psi"][slot] += 1
            classes = self._recent["prediction_psi"]
            classes[class_id if 0 <= class_id < len(classes) - 1 else -1] += 1
            for (name, edges), value in zip(self._features, features, strict=False):
                place = np.searchsorted(edges, value, side="right")
                self._recent[f"feature_psi:{name}"][place] += 1
                mean, std = self._moments[name]
                near = min(max(value, mean - FAR_STD * std), mean + FAR_STD * std)
                self._sums[name] = self._sums.get(name, 0.0) + near

    def _add_latency(self, latency_ms: float) -> None:
        if latency_ms <= 0:
            return
        if self._timed < self.config.min_records:
            # How fast the release is on this device, before anything can have slowed it down.
            self._latency_first += latency_ms / self.config.min_records
        self._timed += 1
        self._latency_sum = self._latency_sum * self._decay + latency_ms
        self._latency_weight = self._latency_weight * self._decay + 1.0

    @property
    def is_sufficient(self) -> bool:
        """True once there are records enough to judge by."""
        return self.count >= self.config.min_records

    def metrics(self) -> dict[str, Metric]:
        """Every metric that can be told now; none before there are records enough."""
        config = self.config
        if not self.is_sufficient:
            return {}
        with self._lock:
            found = {
                name: Metric(psi(self._reference[name], recent), config.fire_psi, config.clear_psi)
                for name, recent in self._recent.items()
            }
            # What no bin shows: a mean that moves within its bin or far out of all of them. 1e-8
            # keeps a constant feature from dividing by 0.
            for name, total in self._sums.items():
                mean, std = self._moments[name]
                shift = abs(total / self._weight - mean) / (std + 1e-8)
                found[f"feature_shift:{name}"] = Metric(
                    shift, config.fire_feature_shift, config.fire_feature_shift / 2
                )
            if self._timed >= 2 * config.min_records and self._latency_first > 0:
                ratio = self._latency_sum / self._latency_weight / self._latency_first
                limit = config.fire_latency_ratio
                found["latency_mean_ratio"] = Metric(ratio, limit, 1.0 + (limit - 1.0) / 2)
        return found

    def check(self, now_s: float, *, is_firing: bool) -> Change | None:
        """What begins or ends; None while nothing changes, and between two looks.

        One odd stretch of records changes nothing: several looks in a row must agree, each with new
        records and some time after the one before.

        Args:
            now_s: monotonic seconds.
            is_firing: whether drift of this release fires already.
        """
        is_due = now_s - self._checked_at_s >= self.config.check_interval_s
        if not is_due or self.count - self._checked_count < CHECK_RECORDS:
            return None
        metrics = self.metrics()
        if not metrics:
            return None
        self._checked_at_s, self._checked_count = now_s, self.count
        name, worst = max(metrics.items(), key=lambda item: item[1].severity)
        if is_firing:
            speaks = all(metric.value < metric.resolves_below for metric in metrics.values())
        else:
            speaks = worst.severity >= 1.0
        self._streak = self._streak + 1 if speaks else 0
        if self._streak < self.config.consecutive_checks:
            return None
        self._streak = 0
        return Change(not is_firing, name, round(worst.value, 4), worst.threshold)


def psi(reference: np.ndarray[Any, Any], recent: np.ndarray[Any, Any]) -> float:
    """PSI of `recent` against `reference` counts over the same bins; 0 without recent ones."""
    total = recent.sum()
    if total <= 0 or reference.sum() <= 0:
        return 0.0
    bins = len(reference)
    p = reference / reference.sum() + REFERENCE_FLOOR
    q = (recent + PRIOR) / (total + PRIOR * bins)
    p /= p.sum()
    return float(((q - p) * np.log(q / p)).sum())


def moments_of(edges: Sequence[float], counts: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a feature from its bins, each at the middle of its edges; the
    two open bins at the ends count at their edge."""
    inner = np.asarray(edges, dtype=np.float64)
    middles = np.concatenate([inner[:1], (inner[1:] + inner[:-1]) / 2, inner[-1:]])
    weights = np.asarray(counts, dtype=np.float64)
    if len(weights) != len(middles) or weights.sum() <= 0:
        raise ValueError(f"expected {len(middles)} counts for {len(inner)} edges")
    mean = float((weights * middles).sum() / weights.sum())
    return mean, float(np.sqrt((weights * (middles - mean) ** 2).sum() / weights.sum()))


def coarsen(
    edges: Sequence[float], counts: Sequence[float], *, keep: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """`counts` merged into `keep` bins of neighbours and the edges left between them.

    A device sees hundreds of records, not millions: with 64 bins it would measure noise.
    """
    fine = np.asarray(counts, dtype=np.float64)
    groups = np.array_split(np.arange(len(fine)), min(keep, len(fine)))
    merged = np.array([fine[group].sum() for group in groups])
    borders = np.array([edges[group[-1]] for group in groups[:-1]], dtype=np.float64)
    return borders, merged
