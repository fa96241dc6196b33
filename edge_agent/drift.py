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
        for feature in baseline.get("features") or []:
            edges, counts = coarsen(feature["edges"], feature["counts"], keep=8)
            self._features.append((feature["name"], edges))
            self._reference[feature["name"]] = counts
        self._recent = {name: np.zeros_like(row) for name, row in self._reference.items()}

    def add(self, class_id: int, confidence: float, features: Sequence[float]) -> None:
        """Counts one record; `features` in the baseline's order, missing ones left out."""
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

    def scores(self) -> dict[str, float]:
        """PSI by name."""
        return {name: psi(self._reference[name], recent) for name, recent in self._recent.items()}

    def check(self) -> dict[str, Any] | None:
        """An event when drift begins or ends, else None. Two thresholds keep it from flapping."""
        if self.count < self.config.min_records:
            return None
        scores = self.scores()
        name, worst = max(scores.items(), key=lambda item: item[1])
        if not self.is_raised and worst >= self.config.raise_psi:
            self.is_raised = True
        elif self.is_raised and worst < self.config.clear_psi:
            self.is_raised = False
        else:
            return None
        kind = "drift_raised" if self.is_raised else "drift_cleared"
        return {"kind": kind, "metric": name, "psi": round(worst, 4)}


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
