"""The small decisions of the agent: health, drift, resources, cache, which model."""

import itertools
from typing import Any

import numpy as np
import pytest

from edge_agent.adaptive import AdaptiveChooser, AdaptiveConfig, Choice
from edge_agent.cache import ResultCache, digest_input
from edge_agent.config import DriftConfig, InstallConfig, MonitorConfig
from edge_agent.drift import DriftMonitor, coarsen, psi
from edge_agent.health import Traffic, judge
from edge_agent.monitor import Thresholds
from edge_agent.session import LatencyWindow, Result

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


RESULT = Result([], 1.0, 0, 1.0, [(0, "a", 1.0)])


def test_the_cache_forgets_the_least_used_and_the_old() -> None:
    now = [0.0]
    cache = ResultCache(2, ttl_s=10, clock=lambda: now[0])
    cache.put(b"a", RESULT)
    cache.put(b"b", RESULT)
    assert cache.get(b"a") is RESULT
    cache.put(b"c", RESULT)
    assert cache.get(b"b") is None
    now[0] = 11
    assert cache.get(b"a") is None
    assert (cache.hits, cache.misses) == (1, 2)


def test_inputs_of_other_release_shape_or_type_share_no_key() -> None:
    x = np.zeros((2, 2), dtype=np.float32)
    keys = {
        digest_input("m", x),
        digest_input("n", x),
        digest_input("m", x.reshape(1, 4)),
        digest_input("m", x.view(np.int32)),
        digest_input("m", x + 1),
    }
    assert len(keys) == 5
    assert digest_input("m", x) == digest_input("m", x.copy())


def test_a_slow_large_model_yields_and_returns_without_alternating() -> None:
    chooser = AdaptiveChooser(AdaptiveConfig(latency_budget_ms=50, hold_inferences=10))
    choices = []
    for step in range(400):
        load = 2.0 if 100 <= step < 200 else 1.0
        choice = chooser.choose()
        chooser.record(choice, load * (30.0 if choice is Choice.LARGE else 5.0))
        choices.append(choice)
    switches = sum(a != b for a, b in itertools.pairwise(choices))
    assert switches == 2
    assert choices[150] is Choice.SMALL and choices[-1] is Choice.LARGE


def test_scarce_resources_override_and_low_confidence_asks_again() -> None:
    chooser = AdaptiveChooser(AdaptiveConfig())
    assert chooser.choose(is_scarce=True) is Choice.SMALL
    assert chooser.wants_second_opinion(Choice.SMALL, 0.3)
    assert not chooser.wants_second_opinion(Choice.SMALL, 0.9)
    assert not chooser.wants_second_opinion(Choice.LARGE, 0.3)


def test_latency_percentiles_cover_the_window_alone() -> None:
    window = LatencyWindow(100)
    assert window.stats() == {}
    for n in range(1000):
        window.add(1_000_000 if n < 900 else 2_000_000)
    stats = window.stats()
    assert (stats["count"], stats["p50_ms"], stats["p99_ms"]) == (1000, 2.0, 2.0)
