"""Drift on the device: recent records against the release's baseline, with exponential forgetting.

Population stability index over the baseline's bins: PSI = sum (q - p) ln(q / p). The server decides
with many devices together; this only raises an early event for one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_agent.config import DriftConfig

CONFIDENCE_BINS = 8
REFERENCE_FLOOR = 1e-3
PRIOR = 0.5
"""Half a record added to each bin (Jeffreys), so that an empty bin is not infinitely far."""


class DriftMonitor:
    """Running PSI of confidence, class mix and features against a baseline profile."""

    def __init__(self, baseline: dict[str, Any], config: DriftConfig) -> None:
        """`baseline` is a profile of schema `aviary.baseline/1`."""
        self.config = config
        self._decay = 0.5 ** (1.0 / config.half_life_records)
        self._weight = 0.0
        self.count = 0
        self.is_raised = False
        confidence = np.asarray(baseline["confidence"]["counts"], dtype=np.float64)
        grouped = confidence.reshape(CONFIDENCE_BINS, -1).sum(axis=1)
        self._reference = {
            "confidence": grouped,
            "class": np.asarray(baseline["class"]["counts"], dtype=np.float64),
        }
        self._features = []
        self._moments: dict[str, tuple[float, float]] = {}
        self._sums: dict[str, float] = {}
        self._latency_first = 0.0
        self._latency_sum = 0.0
        for feature in baseline.get("features") or []:
            edges, counts = coarsen(feature["edges"], feature["counts"], keep=8)
            self._features.append((feature["name"], edges))
            self._reference[feature["name"]] = counts
            self._moments[feature["name"]] = moments_of(feature["edges"], feature["counts"])
        self._recent = {name: np.zeros_like(row) for name, row in self._reference.items()}

    def add(
        self,
        class_id: int,
        confidence: float,
        features: Sequence[float],
        latency_ms: float = 0.0,
    ) -> None:
        """Counts one record; `features` in the baseline's order, missing ones left out."""
        if self.count < self.config.min_records:
            # How fast the release is on this device, before anything can have slowed it down.
            self._latency_first += latency_ms / self.config.min_records
        self._latency_sum = self._latency_sum * self._decay + latency_ms
        for name in self._sums:
            self._sums[name] *= self._decay
        for counts in self._recent.values():
            counts *= self._decay
        self._weight = self._weight * self._decay + 1.0
        self.count += 1
        slot = min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)
        self._recent["confidence"][slot] += 1
        classes = self._recent["class"]
        classes[class_id if 0 <= class_id < len(classes) - 1 else -1] += 1
        for (name, edges), value in zip(self._features, features, strict=False):
            self._recent[name][np.searchsorted(edges, value, side="right")] += 1
            self._sums[name] = self._sums.get(name, 0.0) + value

    def scores(self) -> dict[str, float]:
        """PSI by name."""
        return {name: psi(self._reference[name], recent) for name, recent in self._recent.items()}

    def shifts(self) -> dict[str, float]:
        """What no bin shows: the ratio of latency to its beginning, and by how many standard
        deviations a feature's mean has moved; 1e-8 keeps a constant feature from dividing by 0."""
        found = {}
        if self.count >= self.config.min_records and self._latency_first > 0:
            found["latency_ratio"] = self._latency_sum / self._weight / self._latency_first
        for name, total in self._sums.items():
            mean, std = self._moments[name]
            found[f"{name}_z"] = abs(total / self._weight - mean) / (std + 1e-8)
        return found

    def check(self) -> dict[str, Any] | None:
        """An event when drift begins or ends, else None. Two thresholds keep it from flapping."""
        if self.count < self.config.min_records:
            return None
        scores, shifts = self.scores(), self.shifts()
        # In units of its own threshold, so that one of them is the worst.
        severity = {name: value / self.config.raise_psi for name, value in scores.items()}
        for name, value in shifts.items():
            is_ratio = name == "latency_ratio"
            limit = self.config.raise_latency_ratio if is_ratio else self.config.raise_feature_z
            severity[name] = (value - 1.0) / (limit - 1.0) if is_ratio else value / limit
        name, worst = max(severity.items(), key=lambda item: item[1])
        if not self.is_raised and worst >= 1.0:
            self.is_raised = True
        elif self.is_raised and worst < self.config.clear_psi / self.config.raise_psi:
            self.is_raised = False
        else:
            return None
        kind = "drift_raised" if self.is_raised else "drift_cleared"
        if name in scores:
            return {"kind": kind, "metric": name, "psi": round(scores[name], 4)}
        return {"kind": kind, "metric": name, "value": round(shifts[name], 4)}


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
