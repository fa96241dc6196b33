"""The small decisions of the agent: drift and resources."""

import numpy as np
import pytest

from edge_agent.config import MonitorConfig
from edge_agent.observation.distances import coarsen, group_classes, psi
from edge_agent.observation.monitor import Thresholds


def test_psi_is_zero_for_equal_shares_and_grows_with_distance() -> None:
    even = [1000.0, 1000.0]
    assert psi(even, even) == pytest.approx(0, abs=1e-6)
    assert psi(even, [900.0, 100.0]) > psi(even, [700.0, 300.0]) > 0
    assert psi(even, [0.0, 0.0]) == 0


def test_coarser_bins_keep_every_record() -> None:
    edges, counts = coarsen(list(range(63)), [1.0] * 64, keep=8)
    assert len(edges) == 7 and counts == [8.0] * 8
    assert np.searchsorted(edges, edges, side="right").tolist() == list(range(1, 8))


def test_many_classes_are_grouped_by_mass_and_a_common_one_stays_alone() -> None:
    assert group_classes([1.0] * 10) == list(range(10))
    bins = group_classes([1.0] * 1000)
    sizes = np.bincount(bins)
    assert len(sizes) == 12 and sizes.min() > 60
    bins = group_classes([1000.0, *[1.0] * 999])
    assert bins.count(bins[0]) == 1 and len(set(bins)) == 12


def crossings(thresholds: Thresholds, values: list[float]) -> list[bool]:
    """Whether it fires, at each change."""
    found = []
    for value in values:
        found += [change.is_firing for change in thresholds.check({"cpu_percent": value})]
    return found


def test_a_threshold_needs_several_samples_and_tells_each_change_once() -> None:
    thresholds = Thresholds(MonitorConfig(max_cpu_percent=90, consecutive_samples=3))
    values = [95.0, 95, 10, 95, 95, 95, 95, 95, 10, 95, 10, 10, 10, 10]
    assert crossings(thresholds, values) == [True, False]


def test_a_value_that_hovers_about_its_threshold_does_not_flap() -> None:
    thresholds = Thresholds(MonitorConfig(max_cpu_percent=90, consecutive_samples=2))
    assert crossings(thresholds, [91.0, 91, 89, 89, 91, 91, 89, 89] * 20) == [True]
    assert crossings(thresholds, [80.0, 80]) == [False], "a tenth below it, it is over"


def test_free_disk_fires_when_it_falls_and_is_over_a_tenth_above() -> None:
    thresholds = Thresholds(MonitorConfig(min_disk_free_mb=100, consecutive_samples=1))
    kinds = []
    for value in (120.0, 99.0, 105.0, 109.0, 111.0):
        kinds += [change.is_firing for change in thresholds.check({"disk_free_mb": value})]
    assert kinds == [True, False]


def test_what_fired_before_a_restart_is_taken_up() -> None:
    thresholds = Thresholds(MonitorConfig(max_cpu_percent=90, consecutive_samples=1))
    thresholds.restore(["cpu_percent"])
    assert thresholds.is_firing("cpu_percent")
    assert crossings(thresholds, [95.0, 10.0]) == [False]
