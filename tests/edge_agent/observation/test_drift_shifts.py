"""Drift on one device: what fires, what does not, and how seldom a person is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.clock import Clock
from edge_agent.config import DriftConfig
from edge_agent.files import DiskFiles
from edge_agent.observation.distances import moments_of
from edge_agent.observation.drift import Change, DriftMonitor
from edge_agent.observation.incidents import DRIFT, RESOURCE, IncidentLog

CONFIG = DriftConfig(look_records=50, min_records=100, check_interval_s=0.0)
EDGES = [i / 64 for i in range(1, 64)]


class Device:
    """A monitor fed with records, and every change it told of; a record takes a second."""

    def __init__(self, config: DriftConfig = CONFIG, *, seed: int = 0) -> None:
        feature = {"name": "input_mean", "edges": EDGES, "counts": [16] * 64}
        counts = [0] * 32 + [31] * 31 + [39]
        self.monitor = DriftMonitor(
            {"confidence": {"counts": counts}, "class": {"counts": [100] * 10 + [0]},
             "features": [feature]},
            config,
        )  # fmt: skip
        self.chance = np.random.default_rng(seed)
        self.changes: list[Change] = []
        self.now_s = 0.0
        self.is_firing = False

    def feed(self, number: int, *, latency_ms: float = 1.0, offset: float = 0.0) -> list[Change]:
        """The changes while `number` more records come."""
        first = len(self.changes)
        for _ in range(number):
            confidence = float(self.chance.uniform(0.5, 1.0))
            value = float(self.chance.uniform(0.0, 1.0)) + offset
            self.monitor.add(int(self.chance.integers(10)), confidence, [value], latency_ms)
            self.now_s += 1.0
            change = self.monitor.check(self.now_s, is_firing=self.is_firing)
            if change is not None:
                self.is_firing = change.is_firing
                self.changes.append(change)
        return self.changes[first:]


def test_a_slower_device_fires_once_and_resolves_when_it_recovers() -> None:
    device = Device()
    assert device.feed(300, latency_ms=10.0) == []
    (fired,) = device.feed(300, latency_ms=40.0)
    assert (fired.is_firing, fired.metric, fired.threshold) == (True, "latency_mean_ratio", 2.0)
    assert device.feed(60, latency_ms=16.0) == [], "between the two thresholds nothing changes"
    assert [change.is_firing for change in device.feed(600, latency_ms=10.0)] == [False]


def test_answers_out_of_the_cache_say_nothing_of_latency() -> None:
    device = Device()
    device.feed(500, latency_ms=0.0)
    assert "latency_mean_ratio" not in device.monitor.metrics()
    assert device.feed(500, latency_ms=10.0) == []
    assert device.monitor.metrics()["latency_mean_ratio"].value == pytest.approx(1.0)


def test_inputs_that_moved_fire_by_their_worst_metric_and_resolve_when_they_are_back() -> None:
    device = Device()
    assert device.feed(1000) == []
    (fired,) = device.feed(500, offset=0.9)
    assert (fired.is_firing, fired.metric) == (True, "feature_psi:input_mean")
    assert [change.is_firing for change in device.feed(1000)] == [False]


def test_one_odd_stretch_does_not_fire() -> None:
    device = Device()
    device.feed(500)
    for _ in range(20):
        assert device.feed(25, offset=3.0) == [], "one look may see it, three in a row must"
        assert device.feed(400) == []


@pytest.mark.parametrize("seed", range(5))
def test_what_the_baseline_says_never_fires(seed: int) -> None:
    assert Device(DriftConfig(check_interval_s=0.0), seed=seed).feed(4000) == []


def test_nothing_is_judged_before_there_are_records_enough() -> None:
    device = Device()
    assert device.feed(CONFIG.min_records - 1, offset=9.0) == []
    assert device.monitor.metrics() == {}
    assert not device.monitor.is_sufficient


def test_looks_are_apart_in_time_however_fast_the_records_come() -> None:
    device = Device(DriftConfig(look_records=50, check_interval_s=1000.0))
    device.feed(500)
    assert device.feed(2400, offset=0.9) == []
    (fired,) = device.feed(1200, offset=0.9)
    assert fired.is_firing


def test_a_feature_that_moves_is_measured_in_standard_deviations() -> None:
    device = Device()
    device.feed(1000)
    device.feed(1000, offset=0.9)
    shift = device.monitor.metrics()["feature_shift:input_mean"]
    assert shift.value == pytest.approx(0.9 * np.sqrt(12), rel=0.2)
    assert (shift.threshold, shift.resolves_below) == (1.0, 0.5)


def test_a_constant_feature_divides_by_no_zero() -> None:
    mean, std = moments_of([1.0, 1.0], [0, 5, 0])
    assert (mean, std) == (1.0, 0.0)
    with pytest.raises(ValueError, match="expected 3 counts"):
        moments_of([1.0, 2.0], [1])


# --- how often a person is told ---------------------------------------------------------------


class Times:
    """A clock that moves when told."""

    def __init__(self, boot_id: str = "boot-1", *, wall: float = 1e9) -> None:
        self.now = 0.0
        self.clock = Clock(boot_id, lambda: self.now, lambda: wall + self.now)


def fire(log: IncidentLog, **over: Any) -> dict[str, Any] | None:
    given = {"kind": DRIFT, "model": "digits", "metric": "prediction_psi", "value": 0.8,
             "threshold": 0.5, "manifest_sha256": "f" * 64, "quiet_s": 3600.0}  # fmt: skip
    return log.fire(**{**given, **over})


def test_a_signal_that_comes_and_goes_all_day_is_told_once_an_hour(tmp_path: Path) -> None:
    times = Times()
    log = IncidentLog(tmp_path / "incidents.json", DiskFiles(), times.clock)
    kinds = []
    for _ in range(24 * 3):
        kinds += [event["kind"] for event in [fire(log)] if event]
        assert log.find_firing(DRIFT, "digits"), "the state is told the truth every time"
        times.now += 600
        kinds += [event["kind"] for event in [log.resolve(DRIFT, "digits")] if event]
        assert log.rows() == []
        times.now += 600
    assert kinds.count("drift_firing") == kinds.count("drift_resolved") == 24
    assert kinds == ["drift_firing", "drift_resolved"] * 24


def test_what_fires_goes_on_over_a_restart_and_is_told_once(tmp_path: Path) -> None:
    path, times = tmp_path / "incidents.json", Times()
    assert fire(IncidentLog(path, DiskFiles(), times.clock)) is not None
    times.now += 500
    log = IncidentLog(path, DiskFiles(), times.clock)
    (row,) = log.rows()
    assert (row["kind"], row["model"], row["metric"]) == ("drift", "digits", "prediction_psi")
    assert row["for_s"] == 500.0
    assert log.resolve(DRIFT, "digits") is not None
    again = IncidentLog(path, DiskFiles(), times.clock)
    assert again.rows() == []
    assert fire(again) is None, "within the hour of the event before the restart"


def test_after_a_reboot_the_wall_clock_says_how_long_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "incidents.json"
    fire(IncidentLog(path, DiskFiles(), Times().clock))
    for wall, expected in ((1e9 + 60, 60.0), (0.0, 0.0), (9e9, 30 * 86_400.0)):
        (row,) = IncidentLog(path, DiskFiles(), Times("boot-2", wall=wall).clock).rows()
        assert row["for_s"] == expected


def test_a_model_has_one_incident_and_each_resource_its_own(tmp_path: Path) -> None:
    log = IncidentLog(tmp_path / "incidents.json", DiskFiles(), Times().clock)
    fire(log)
    fire(log, metric="confidence_psi")
    for metric in ("cpu_percent", "temperature_c"):
        fire(log, kind=RESOURCE, model="", metric=metric)
    log.follow(RESOURCE, "cpu_percent", 99.5)
    rows = {row["metric"]: row["value"] for row in log.rows()}
    assert rows == {"confidence_psi": 0.8, "cpu_percent": 99.5, "temperature_c": 0.8}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"incidents": 7}', '{"incidents": [{"kind": 1}]}']
)
def test_a_file_of_no_use_starts_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "incidents.json"
    path.write_text(text)
    log = IncidentLog(path, DiskFiles(), Times().clock)
    assert log.rows() == []
    fire(log)
    assert len(json.loads(path.read_text())["incidents"]) == 1
