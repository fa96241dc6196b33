"""Windows merge by addition; bins lose nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.rules import bins
from ingest.rules.windows import WindowCounts, merge_counts, sum_counts, window_start

small = st.integers(0, 1000)
windows = st.builds(
    WindowCounts,
    n=small,
    errors=small,
    nonfinite=small,
    confidence_n=small,
    confidence=st.lists(small, max_size=6),
    classes=st.lists(small, max_size=6),
    latency=st.dictionaries(st.integers(-9, 9), small, max_size=5),
    features=st.dictionaries(st.sampled_from("ab"), st.lists(small, max_size=4)),
)


@given(windows, windows, windows)
def test_merging_is_commutative_and_associative(a, b, c):
    assert merge_counts(a, b) == merge_counts(b, a)
    assert merge_counts(merge_counts(a, b), c) == merge_counts(a, merge_counts(b, c))
    assert merge_counts(a, WindowCounts()) == a == sum_counts([a])


@given(windows)
def test_counts_survive_the_json_column(a):
    assert WindowCounts.from_json(a.to_json()) == a


@given(st.floats(0, 1e11), st.sampled_from([5, 60, 3600]))
def test_a_moment_lies_in_its_window(at, seconds):
    start = window_start(at, seconds)
    assert start <= at < start + seconds and start % seconds == 0


@given(st.lists(st.floats(0, 1), min_size=1))
def test_every_confidence_is_counted_once(values):
    assert sum(bins.confidence_counts(values)) == len(values)


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=200), st.floats(0, 1))
def test_a_binned_quantile_is_within_five_percent(values, q):
    found = bins.latency_quantile_ms(bins.latency_counts(values), q)
    exact = float(np.quantile(values, q, method="lower"))
    assert math.isclose(found, exact, rel_tol=0.05)


@given(st.floats(0, allow_infinity=False))
def test_any_latency_has_a_bin_between_the_outer_ones(value):
    assert bins.LATENCY_MIN_BIN <= bins.latency_bin(value) <= bins.LATENCY_MAX_BIN


def test_no_latency_has_no_quantile():
    assert bins.latency_quantile_ms({}, 0.5) is None


def test_classes_outside_the_map_are_counted_last():
    assert bins.class_counts([0, 1, 1, 7], 3) == [1, 2, 0, 1]


@pytest.mark.parametrize(("value", "index"), [(-1, 0), (0.0, 1), (0.5, 1), (1.0, 2), (9, 2)])
def test_feature_bins_include_their_lower_edge(value, index):
    assert bins.feature_counts([value], [0.0, 1.0]).index(1) == index
