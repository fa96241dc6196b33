"""What a stretch of records says, in counts: of the recent ones, or of a device's healthy past."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.observation.distances import coarsen, expected_run, group_classes, moments_of

CONFIDENCE_BINS = 8
FEATURE_BINS = 8
FAR_STD = 4.0
"""Standard deviations that a single value may count for: a few wild ones must not move a mean."""
OWN_FEATURES = 2
"""Features of the input; those of the task come after them."""
LATENCY_STEP = math.log(1.1)
LATENCY_LOWEST_MS = 1e-3
LATENCY_BINS = 200
"""A tenth apart, from a microsecond to three minutes."""


@dataclass(frozen=True)
class Feature:
    name: str
    edges: tuple[float, ...]
    mean: float
    std: float


class Shape:
    """What is counted, by the release's baseline profile (schema `aviary.baseline/1`)."""

    def __init__(self, baseline: dict[str, Any]) -> None:
        """Raises KeyError, ValueError, TypeError or IndexError when the profile is none."""
        self.has_classes = bool(baseline.get("has_classes", True))
        self.has_confidence = self.has_classes and bool(baseline.get("has_confidence", True))
        confidence = [float(count) for count in baseline["confidence"]["counts"]]
        if not confidence or len(confidence) % CONFIDENCE_BINS:
            raise ValueError(f"confidence: expected a multiple of {CONFIDENCE_BINS} counts")
        _, grouped = coarsen(range(len(confidence)), confidence, keep=CONFIDENCE_BINS)
        self.features: list[Feature] = []
        counts: dict[str, list[float]] = {}
        if self.has_confidence:
            counts["confidence_psi"] = grouped
        classes = [float(count) for count in baseline["class"]["counts"]]
        self.class_bins: list[int] = []
        if self.has_classes:
            self.class_bins = group_classes(classes)
            by_bin = [0.0] * (max(self.class_bins) + 1)
            for number, count in zip(self.class_bins, classes, strict=True):
                by_bin[number] += count
            counts["prediction_psi"] = by_bin
        for row in baseline.get("features") or []:
            edges, merged = coarsen(row["edges"], row["counts"], keep=FEATURE_BINS)
            mean, std = moments_of(row["edges"], row["counts"])
            self.features.append(Feature(str(row["name"]), tuple(edges), mean, std))
            counts[f"feature_psi:{row['name']}"] = merged
        self.release = Evidence({name: list(row) for name, row in counts.items()})
        """The release's own reference; its records count as independent."""
        self.release.records = sum(classes) if self.has_classes else float(baseline["n"])
        self.runs_metric = "prediction_psi"
        if not self.has_classes:
            # The first of the task's own numbers, else of the input's: its bins stand for classes.
            first = self.features[min(OWN_FEATURES, len(self.features) - 1)]
            self.runs_metric = f"feature_psi:{first.name}"
        self.release.means = {feature.name: feature.mean for feature in self.features}

    def make_empty(self) -> "Evidence":
        empty = {name: [0.0] * len(row) for name, row in self.release.counts.items()}
        return Evidence(empty, self.runs_metric)


@dataclass
class Evidence:
    """Counts of a stretch of records, and how much it is worth."""

    counts: dict[str, list[float]]
    """By metric, over its bins."""
    runs_metric: str = "prediction_psi"
    """The metric whose bins the runs are of."""
    records: float = 0.0
    runs: float = 0.0
    squared_runs: float = 0.0
    """Sum of the squared lengths of runs of equal predictions, or of values in one bin."""
    means: dict[str, float] = field(default_factory=dict)
    """Of each feature, its values clipped."""
    feature_records: float = 0.0
    latencies: list[float] = field(default_factory=lambda: [0.0] * LATENCY_BINS)

    def design_effect(self) -> float:
        """How many records are worth one: 1 for independent ones, about twice the length of runs
        for a video (Kish 1965, the loss by unequal clusters), less what runs chance alone makes."""
        if self.records <= 0 or self.squared_runs <= 0:
            return 1.0
        observed = self.squared_runs / self.records
        return max(1.0, observed / expected_run(self.counts[self.runs_metric]))

    def absorb(self, other: "Evidence") -> None:
        """Adds the counts of `other`."""
        for name, row in self.counts.items():
            self.counts[name] = [a + b for a, b in zip(row, other.counts[name], strict=True)]
        total = self.feature_records + other.feature_records
        if total > 0:
            for name, mean in other.means.items():
                mine = self.means.get(name, 0.0) * self.feature_records
                self.means[name] = (mine + mean * other.feature_records) / total
        self.feature_records = total
        self.records += other.records
        self.runs += other.runs
        self.squared_runs += other.squared_runs
        self.latencies = [a + b for a, b in zip(self.latencies, other.latencies, strict=True)]

    def median_latency_ms(self) -> float:
        """The median, to a few per cent; 0 without any."""
        total = sum(self.latencies)
        if total <= 0:
            return 0.0
        below = 0.0
        for index, count in enumerate(self.latencies):
            if below + count >= total / 2:
                place = index + (total / 2 - below) / count
                return LATENCY_LOWEST_MS * math.exp(place * LATENCY_STEP)
            below += count
        return 0.0


class Counter:
    """Counts records one by one into an `Evidence`; cheap enough for every inference."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._last: int | None = None
        self._length = 0
        self.evidence = shape.make_empty()

    def add(
        self,
        class_id: int | None,
        confidence: float | None,
        features: Sequence[float],
        latency_ms: float,
    ) -> None:
        evidence, shape = self.evidence, self._shape
        run = class_id
        if not shape.has_classes:
            if len(features) < len(shape.features):
                return
            place = min(OWN_FEATURES, len(shape.features) - 1)
            run = bisect.bisect_right(shape.features[place].edges, features[place])
        elif class_id is None or (shape.has_confidence and confidence is None):
            return
        else:
            bins = shape.class_bins
            number = bins[class_id if 0 <= class_id < len(bins) - 1 else -1]
            evidence.counts["prediction_psi"][number] += 1
        evidence.records += 1
        if run == self._last:
            # (L + 1)² - L²
            evidence.squared_runs += 2 * self._length + 1
            self._length += 1
        else:
            self._last, self._length = run, 1
            evidence.squared_runs += 1
            evidence.runs += 1
        if shape.has_confidence and confidence is not None:
            slot = min(max(int(confidence * CONFIDENCE_BINS), 0), CONFIDENCE_BINS - 1)
            evidence.counts["confidence_psi"][slot] += 1
        if latency_ms > 0:
            place = int(
                math.log(max(latency_ms, LATENCY_LOWEST_MS) / LATENCY_LOWEST_MS) / LATENCY_STEP
            )
            evidence.latencies[min(place, LATENCY_BINS - 1)] += 1
        if len(features) < len(shape.features):
            return
        evidence.feature_records += 1
        for feature, value in zip(shape.features, features, strict=False):
            row = evidence.counts[f"feature_psi:{feature.name}"]
            row[bisect.bisect_right(feature.edges, value)] += 1
            far = FAR_STD * feature.std
            near = min(max(value, feature.mean - far), feature.mean + far)
            mean = evidence.means.get(feature.name, 0.0)
            evidence.means[feature.name] = mean + (near - mean) / evidence.feature_records

    def take(self) -> Evidence:
        """What was counted since; the run under way goes on in the next stretch."""
        taken, self.evidence = self.evidence, self._shape.make_empty()
        self._length = 0
        self._last = None
        return taken
