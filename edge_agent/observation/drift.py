"""Drift on the device: recent records against the release's baseline and the device's own past.

The server decides with many devices together; this only finds early what one of them meets, and
must be silent else: at most one false alarm in a year of a device. So

- a look takes as many records as are worth `look_records` independent ones. Frames of a video
  repeat each other; the lengths of runs of equal predictions say how much (`Evidence`);
- what is far must be far from the release's baseline *and* from this device's own healthy past. A
  device that always sees another mix of classes is not ill, nor is a night the baseline knows;
- PSI is less what noise alone makes of it (`psi_bias`), features count by clipped means, latency by
  the ratio of medians, which one slow answer does not move;
- several looks in a row must agree on the same metric.

`benchmarks/decisions/device.py` simulates device-years of it. Its metrics and states have the words
of the server's drift pages.
"""

import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from edge_agent.config import DriftConfig
from edge_agent.observation.distances import psi, psi_bias
from edge_agent.observation.evidence import Counter, Evidence, Shape

PAST_RUNS = 30
"""Runs of predictions that the past must have seen, to know how long they are."""
PAST_LOOKS = 50
"""Looks' worth of records after which the past is known even without: some models hardly ever
change their answer."""
MAX_LONGER = 2.0
PAST_SECONDS = 86_400.0
"""The past is learned for a day, nights included, and stays then, lest what creeps become it."""


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
    """Compares what a release answers with its baseline and with its own past on this device."""

    def __init__(
        self, baseline: dict[str, Any], config: DriftConfig, past: dict[str, Any] | None = None
    ) -> None:
        """
        Args:
            baseline: a profile of schema `aviary.baseline/1`.
            past: what `describe_past` gave before a restart; one that does not fit is left out.
        """
        self.config = config
        self.shape = Shape(baseline)
        self.count = 0
        self._lock = threading.Lock()
        self._counter = Counter(self.shape)
        self._past = self.shape.make_empty()
        self._past_s = 0.0
        """How long the past has been learned for."""
        self._looked_at_s: float | None = None
        self._metrics: dict[str, Metric] = {}
        self._streaks: dict[str, int] = {}
        self._calm = 0
        if past is not None:
            self._restore(past)

    def add(
        self,
        class_id: int | None,
        confidence: float | None,
        features: Sequence[float],
        latency_ms: float = 0.0,
    ) -> None:
        """Counts one record; class and confidence None where the release gives none, `features` in
        the baseline's order, or none, and a latency of 0 for an answer that the model did not
        compute. What is not finite counts for nothing."""
        if confidence is not None and not math.isfinite(confidence):
            return
        if not all(map(math.isfinite, features)):
            return
        with self._lock:
            self.count += 1
            self._counter.add(
                class_id, confidence, features, latency_ms if math.isfinite(latency_ms) else 0.0
            )

    @property
    def is_sufficient(self) -> bool:
        """True once the device's own past is known well enough to judge by."""
        past, config = self._past, self.config
        is_known = past.runs >= PAST_RUNS or past.records >= PAST_LOOKS * config.look_records
        return is_known and past.records / past.design_effect() >= config.min_records

    def metrics(self) -> dict[str, Metric]:
        """Every metric of the last look; none before the first."""
        return dict(self._metrics)

    def check(self, now_s: float, *, is_firing: bool) -> Change | None:
        """What begins or ends; None while nothing changes, and between two looks.

        Args:
            now_s: monotonic seconds.
            is_firing: whether drift of this release fires already.
        """
        if self._looked_at_s is None:
            self._looked_at_s = now_s
        with self._lock:
            evidence = self._counter.evidence
            if not self.is_sufficient:
                if evidence.records >= min(self.config.min_records, self.config.look_records):
                    self._learn(self._counter.take(), now_s)
                return None
            usual = self._past.design_effect()
            # Longer runs than ever make a look take longer, but not without end: a stuck camera or
            # one answer for everything is a single long run.
            worth = min(max(evidence.design_effect(), usual), MAX_LONGER * usual)
            if evidence.records < self.config.look_records * worth:
                return None
            if now_s - self._looked_at_s < self.config.check_interval_s:
                return None
            evidence = self._counter.take()
        return self.judge(evidence, worth, now_s, is_firing=is_firing)

    def judge(
        self, evidence: Evidence, worth: float, now_s: float, *, is_firing: bool
    ) -> Change | None:
        """Looks at a stretch of records; the change, if this look brings one.

        Args:
            worth: its design effect.
        """
        metrics = self._compare(evidence, evidence.records / worth)
        self._metrics = metrics
        for name in metrics.keys() | self._streaks.keys():
            is_past = name in metrics and metrics[name].severity >= 1.0
            self._streaks[name] = self._streaks.get(name, 0) + 1 if is_past else 0
        is_calm = all(metric.value < metric.resolves_below for metric in metrics.values())
        self._calm = self._calm + 1 if is_calm else 0
        if is_calm and not is_firing and self._past_s < PAST_SECONDS:
            self._learn(evidence, now_s)
        self._looked_at_s = now_s
        needed = self.config.consecutive_checks
        if is_firing:
            if self._calm < needed:
                return None
            name = max(metrics, key=lambda key: metrics[key].severity)
        else:
            lasting = [key for key, streak in self._streaks.items() if streak >= needed]
            if not lasting:
                return None
            name = max(lasting, key=lambda key: metrics[key].severity)
        self._calm, self._streaks = 0, {}
        return Change(not is_firing, name, round(metrics[name].value, 4), metrics[name].threshold)

    def describe_past(self) -> dict[str, Any]:
        """The device's own past as JSON values, for `past` after a restart."""
        with self._lock:
            past = self._past
            return {
                "counts": {name: list(row) for name, row in past.counts.items()},
                "records": past.records,
                "runs": past.runs,
                "squared_runs": past.squared_runs,
                "means": dict(past.means),
                "feature_records": past.feature_records,
                "latencies": list(past.latencies),
                "seconds": self._past_s,
            }

    def _restore(self, row: dict[str, Any]) -> None:
        try:
            values = {key: value for key, value in row.items() if key != "seconds"}
            found = Evidence(runs_metric=self.shape.runs_metric, **values)
            fits = {name: len(counts) for name, counts in found.counts.items()} == {
                name: len(counts) for name, counts in self._past.counts.items()
            }
            if fits and len(found.latencies) == len(self._past.latencies):
                found.design_effect()
                self._past, self._past_s = found, float(row["seconds"])
        except (TypeError, KeyError, ValueError, AttributeError):
            return  # of another version: it is learned anew

    def _learn(self, evidence: Evidence, now_s: float) -> None:
        self._past.absorb(evidence)
        self._past_s += max(0.0, now_s - (self._looked_at_s or now_s))
        self._looked_at_s = now_s

    def _compare(self, evidence: Evidence, effective: float) -> dict[str, Metric]:
        config, release, past = self.config, self.shape.release, self._past
        past_effective = past.records / past.design_effect()
        found = {}
        for name, recent in evidence.counts.items():
            if name.startswith("feature_psi:") and not evidence.feature_records:
                continue
            distances = [
                psi(reference.counts[name], recent) - psi_bias(len(recent), effective, worth)
                for reference, worth in ((release, release.records), (past, past_effective))
            ]
            value = max(0.0, min(distances))
            found[name] = Metric(value, config.fire_psi, config.clear_psi)
        limit = config.fire_feature_shift
        for feature in self.shape.features:
            if not evidence.feature_records or not past.feature_records:
                continue
            # What no bin shows: a mean that moves within its bin or far out of all of them. 1e-8
            # keeps a constant feature from dividing by 0.
            mean = evidence.means[feature.name]
            shift = min(
                abs(mean - reference.means[feature.name]) / (feature.std + 1e-8)
                for reference in (release, past)
            )
            found[f"feature_shift:{feature.name}"] = Metric(shift, limit, limit / 2)
        usual_ms, now_ms = past.median_latency_ms(), evidence.median_latency_ms()
        if usual_ms > 0 and now_ms > 0:
            limit = config.fire_latency_ratio
            found["latency_mean_ratio"] = Metric(now_ms / usual_ms, limit, 1.0 + (limit - 1.0) / 2)
        return found
