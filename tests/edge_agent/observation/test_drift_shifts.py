"""Drift that no bin shows: a device that slows down, a feature that moves."""

import numpy as np
import pytest

from edge_agent.config import DriftConfig
from edge_agent.observation.drift import DriftMonitor, moments_of

CONFIG = DriftConfig(half_life_records=50, min_records=100)
EDGES = [i / 64 for i in range(1, 64)]


def make_monitor() -> DriftMonitor:
    feature = {"name": "input_mean", "edges": EDGES, "counts": [16] * 64}
    counts = [0] * 32 + [31] * 31 + [39]
    return DriftMonitor(
        {"confidence": {"counts": counts}, "class": {"counts": [100] * 10 + [0]},
         "features": [feature]},
        CONFIG,
    )  # fmt: skip


def feed(monitor: DriftMonitor, number: int, *, latency_ms: float, offset: float = 0.0) -> None:
    chance = np.random.default_rng(monitor.count)
    for _ in range(number):
        confidence = float(chance.uniform(0.5, 1.0))
        value = float(chance.uniform(0.0, 1.0)) + offset
        monitor.add(int(chance.integers(10)), confidence, [value], latency_ms)


def test_a_slower_device_raises_once_and_clears_when_it_recovers() -> None:
    monitor = make_monitor()
    feed(monitor, 300, latency_ms=10.0)
    assert monitor.check() is None
    feed(monitor, 300, latency_ms=40.0)
    event = monitor.check()
    assert event is not None
    assert (event["kind"], event["metric"]) == ("drift_raised", "latency_ratio")
    assert event["value"] == pytest.approx(4.0, rel=0.05)
    feed(monitor, 30, latency_ms=10.0)
    assert monitor.check() is None, "between the two thresholds nothing changes"
    feed(monitor, 600, latency_ms=10.0)
    cleared = monitor.check()
    assert cleared is not None and cleared["kind"] == "drift_cleared"


def test_a_feature_that_moves_is_measured_in_standard_deviations() -> None:
    monitor = make_monitor()
    feed(monitor, 1000, latency_ms=1.0, offset=0.9)
    std = 1 / np.sqrt(12)
    assert monitor.shifts()["input_mean_z"] == pytest.approx(0.9 / std, rel=0.2)


def test_a_constant_feature_divides_by_no_zero() -> None:
    mean, std = moments_of([1.0, 1.0], [0, 5, 0])
    assert (mean, std) == (1.0, 0.0)
    with pytest.raises(ValueError, match="expected 3 counts"):
        moments_of([1.0, 2.0], [1])
