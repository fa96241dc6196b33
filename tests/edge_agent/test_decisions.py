"""The small decisions of the agent: health, drift, resources."""

from typing import Any

import numpy as np
import pytest

from edge_agent.config import DriftConfig, InstallConfig, MonitorConfig
from edge_agent.observation.drift import DriftMonitor, coarsen, psi
from edge_agent.observation.monitor import Thresholds
from edge_agent.serving.health import Traffic, judge

CONFIG = InstallConfig()


@pytest.mark.parametrize(
    ("traffic", "watched_s", "previous_p95_ms", "is_over", "is_bad"),
    [
        (Traffic(), 1, 0, False, False),
        (Traffic(), 60, 0, True, False),
        (Traffic(inferences=19, errors=19), 1, 0, False, False),
        (Traffic(inferences=20, errors=5), 1, 0, True, True),
        (Traffic(inferences=20, non_finite=5), 1, 0, True, True),
        (Traffic(inferences=100, errors=20), 1, 0, False, False),
        (Traffic(inferences=100, p95_ms=51), 1, 10, True, True),
        (Traffic(inferences=100, p95_ms=49), 1, 10, False, False),
        (Traffic(inferences=100, p95_ms=0.9), 1, 0.01, False, False),
        (Traffic(inferences=100, p95_ms=500), 60, 0, True, False),
    ],
)
def test_a_young_release_is_judged_by_its_traffic(
    traffic: Traffic, watched_s: float, previous_p95_ms: float, is_over: bool, is_bad: bool
) -> None:
    verdict = judge(traffic, watched_s=watched_s, previous_p95_ms=previous_p95_ms, config=CONFIG)
    assert (verdict.is_over, bool(verdict.code)) == (is_over, is_bad)


def make_baseline() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    confidence = generator.beta(8, 2, 5000)
    means = generator.normal(0, 1, 5000)
    edges = np.quantile(means, np.linspace(0, 1, 65)[1:-1])
    return {
        "schema": "aviary.baseline/1",
        "confidence": {"counts": np.histogram(confidence, 64, (0, 1))[0].tolist()},
        "class": {"counts": [2500, 1500, 1000, 0]},
        "features": [
            {
                "name": "input_mean",
                "edges": edges.tolist(),
                "counts": np.bincount(np.searchsorted(edges, means), minlength=64).tolist(),
            }
        ],
    }


def feed(monitor: DriftMonitor, number: int, *, shift: float = 0.0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(1)
    events = []
    for _ in range(number):
        class_id = int(generator.choice(3, p=[0.5, 0.3, 0.2]))
        monitor.add(class_id, generator.beta(8, 2), [generator.normal(shift, 1), 1.0])
        event = monitor.check()
        if event:
            events.append(event)
    return events


def test_drift_is_silent_on_the_baseline_and_raised_and_cleared_once_on_a_shift() -> None:
    monitor = DriftMonitor(make_baseline(), DriftConfig())
    assert feed(monitor, 3000) == []
    raised = feed(monitor, 600, shift=2.0)
    assert [(event["kind"], event["metric"]) for event in raised] == [
        ("drift_raised", "input_mean")
    ]
    assert [event["kind"] for event in feed(monitor, 2000)] == ["drift_cleared"]


def test_psi_is_zero_for_equal_shares_and_grows_with_distance() -> None:
    even = np.array([1000.0, 1000.0])
    assert psi(even, even) == pytest.approx(0, abs=1e-6)
    assert psi(even, np.array([900.0, 100.0])) > psi(even, np.array([700.0, 300.0])) > 0
    assert psi(even, np.zeros(2)) == 0


def test_coarser_bins_keep_every_record() -> None:
    edges, counts = coarsen(list(range(63)), [1.0] * 64, keep=8)
    assert len(edges) == 7 and counts.tolist() == [8.0] * 8
    assert np.searchsorted(edges, edges, side="right").tolist() == list(range(1, 8))


def test_a_threshold_needs_several_samples_and_reports_each_change_once() -> None:
    thresholds = Thresholds(MonitorConfig(max_cpu_percent=90, consecutive_samples=3))
    kinds = []
    for value in [95, 95, 10, 95, 95, 95, 95, 95, 10, 95, 10, 10, 10, 10]:
        kinds += [event["kind"] for event in thresholds.check({"cpu_percent": float(value)})]
    assert kinds == ["resource_raised", "resource_cleared"]
