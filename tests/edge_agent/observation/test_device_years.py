"""A fast part of `benchmarks/decisions/device.py`: the monitor is silent while nothing is wrong."""

import json

import numpy as np
import pytest

from benchmarks.decisions.device import (
    STREAMS,
    Device,
    Stream,
    add_many,
    find_delays,
    make_baseline,
)
from benchmarks.decisions.device_years import Looks, count_streaks, judge_looks, live_on
from edge_agent.config import DriftConfig
from edge_agent.observation.drift import DriftMonitor


def test_the_benchmark_counts_what_the_agent_counts() -> None:
    rng = np.random.default_rng(0)
    baseline = make_baseline(np.full(10, 0.1), rng)
    one, many = DriftMonitor(baseline, DriftConfig()), DriftMonitor(baseline, DriftConfig())
    for _ in range(4):
        classes = np.repeat(rng.integers(0, 10, 20), rng.integers(1, 6, 20))
        size = len(classes)
        columns = rng.uniform(0, 1, size), rng.normal(size=size), rng.uniform(5, 50, size)
        add_many(many, classes, *columns)
        for number, (confidence, feature, latency) in zip(
            classes, zip(*columns, strict=True), strict=True
        ):
            one.add(int(number), float(confidence), [float(feature)], float(latency))
    mine, its = one._counter.evidence, many._counter.evidence
    assert (mine.counts, mine.latencies) == (its.counts, its.latencies)
    assert (mine.records, mine.runs, mine.squared_runs) == (its.records, its.runs, its.squared_runs)
    assert mine.means == pytest.approx(its.means)


@pytest.mark.parametrize("name", STREAMS)
def test_nothing_fires_while_nothing_is_wrong(name: str) -> None:
    """Two devices of a day each, or as long as 100,000 records last."""
    rng = np.random.default_rng(7)
    for _ in range(2):
        device = Device(STREAMS[name], rng)
        device.live(50_000)
        assert device.alarms == 0


def test_psi_of_one_is_found_within_a_thousand_records() -> None:
    delays = find_delays(runs=20, seed=3)
    assert max(delays) <= 1000


@pytest.mark.parametrize(("run", "within"), [(1.0, 1_000), (10.0, 20_000)])
def test_one_class_for_ever_is_found(run: float, within: int) -> None:
    """As by a stuck camera, or a model that has collapsed."""
    device = Device(Stream(run=run), np.random.default_rng(4))
    device.live(20_000)
    device.mix = np.eye(10)[3]
    device.live(within)
    assert device.is_firing and device.alarms == 1


def test_worth_of_a_video_is_told_from_the_lengths_of_its_runs() -> None:
    for run, low, high in ((1.0, 1.0, 1.1), (10.0, 12.0, 20.0), (30.0, 35.0, 65.0)):
        device = Device(Stream(run=run), np.random.default_rng(5))
        device.live(100_000)
        assert low <= device.monitor._past.design_effect() <= high


def test_a_restart_amid_drift_does_not_make_it_the_past() -> None:
    rng = np.random.default_rng(6)
    device = Device(Stream(), rng)
    device.live(5_000)
    kept = json.loads(json.dumps(device.monitor.describe_past()))
    baseline = make_baseline(np.full(10, 0.1), np.random.default_rng(0))
    again = DriftMonitor(baseline, DriftConfig(), kept)
    assert again.is_sufficient
    device.monitor, device.mix = again, np.eye(10)[3]
    device.live(2_000)
    assert device.is_firing


@pytest.mark.parametrize(
    "past", [{}, {"records": 1}, {"counts": []}, {"counts": {"x": []}, "seconds": 0}]
)
def test_a_past_of_no_use_is_learned_anew(past: dict[str, object]) -> None:
    baseline = make_baseline(np.full(10, 0.1), np.random.default_rng(0))
    assert not DriftMonitor(baseline, DriftConfig(), past).is_sufficient


def test_one_slow_answer_or_a_slow_start_moves_no_median() -> None:
    baseline = make_baseline(np.full(10, 0.1), np.random.default_rng(0))
    rng = np.random.default_rng(8)
    for slow in (range(1), range(1000, 1001), range(1500, 1560)):
        monitor, now_s = DriftMonitor(baseline, DriftConfig()), 0.0
        for number in range(4000):
            latency = 60_000.0 if number in slow else 20.0 * float(np.exp(0.2 * rng.normal()))
            monitor.add(int(rng.integers(10)), 0.9, [float(rng.normal())], latency)
            now_s += 1.0
            monitor.check(now_s, is_firing=False)
        assert monitor.metrics()["latency_mean_ratio"].value == pytest.approx(1.0, abs=0.1)


def test_what_is_not_finite_counts_for_nothing() -> None:
    monitor = DriftMonitor(make_baseline(np.full(10, 0.1), np.random.default_rng(0)), DriftConfig())
    for confidence, feature in ((float("nan"), 0.0), (float("inf"), 0.0), (0.5, float("nan"))):
        monitor.add(1, confidence, [feature], 1.0)
    monitor.add(1, 0.5, [0.0], float("inf"))
    assert monitor.count == 1


@pytest.mark.parametrize("name", ["own_mix", "video_runs_10", "day_night_03"])
def test_years_are_judged_as_the_monitor_judges(name: str) -> None:
    device = Device(STREAMS[name], np.random.default_rng(8))
    device.live(20_000)
    monitor = device.monitor
    size = int(np.ceil(monitor.config.look_records * monitor._past.design_effect()))
    looks = Looks(device, size, 10)
    for look in range(10):
        evidence = looks.evidence(look, "mean")
        theirs = monitor._compare(evidence, evidence.records / monitor._past.design_effect())
        ours = {name: values[look] for name, values, _ in judge_looks(monitor, looks)}
        assert ours == pytest.approx({name: metric.value for name, metric in theirs.items()})
        assert {name: limit for name, _, limit in judge_looks(monitor, looks)} == {
            name: metric.threshold for name, metric in theirs.items()
        }


def test_years_count_what_lasts_once() -> None:
    told = np.array([1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1], bool)
    assert count_streaks(told, 3) == 2
    device = Device(Stream(), np.random.default_rng(9))
    device.live(5_000)
    device.mix = np.eye(10)[3]
    alarms, lived_s = live_on(device, 3_600.0, 0.0)
    assert alarms >= 1 and lived_s > 0


def test_day_and_night_are_as_far_apart_as_they_say() -> None:
    device = Device(STREAMS["day_night_03"], np.random.default_rng(10))
    night, day = device.night, 2 * device.mix - device.night
    assert ((night - day) * np.log(night / day)).sum() == pytest.approx(0.3, rel=0.05)
