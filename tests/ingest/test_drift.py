"""The statistics: identities that hold for all counts, and error rates that hold in simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.rules import distances
from ingest.rules import psi as drift

counts = st.lists(st.integers(0, 500), min_size=10, max_size=10)


@given(counts)
def test_psi_of_equal_counts_is_zero(values):
    assert drift.population_stability_index(values, values) == 0


@given(counts, counts)
def test_psi_is_symmetric_finite_and_the_sum_of_its_parts(a, b):
    psi = drift.population_stability_index(a, b)
    assert np.isfinite(psi) and psi >= 0
    assert psi == pytest.approx(drift.population_stability_index(b, a))
    assert psi == pytest.approx(sum(drift.psi_contributions(a, b)))
    assert (drift.psi_contributions(a, b) >= 0).all()


@given(st.lists(st.integers(0, 500), min_size=2, max_size=64), st.booleans())
def test_merged_reference_bins_hold_five_percent_and_lose_nothing(values, is_ordered):
    plan = drift.merge_plan(values, is_ordered)
    merged = drift.merge_bins(values, plan)
    assert len(plan) == len(values) and merged.sum() == sum(values)
    if sum(values) and len(merged) > 1:
        assert merged.min() >= 0.05 * sum(values)


@pytest.mark.parametrize("n", [500, 5000, 50_000])
def test_warning_rarely_fires_at_a_true_psi_of_one_tenth(n):
    rng = np.random.default_rng(n)
    p = np.full(10, 0.1)
    q = _tilted(0.10)
    k = 1 / 50_000 + 1 / n
    limit = drift.psi_threshold(10, k, drift.WARNING_PSI)
    fired = [
        drift.population_stability_index(rng.multinomial(50_000, p), rng.multinomial(n, q)) > limit
        for _ in range(2000)
    ]
    assert np.mean(fired) <= 0.02


def test_warning_finds_a_true_psi_of_one_quarter_at_500_samples():
    rng = np.random.default_rng(1)
    k = 1 / 50_000 + 1 / 500
    limit = drift.psi_threshold(10, k, drift.WARNING_PSI)
    p, q = np.full(10, 0.1), _tilted(0.25)
    fired = [
        drift.population_stability_index(rng.multinomial(50_000, p), rng.multinomial(500, q))
        > limit
        for _ in range(1000)
    ]
    assert np.mean(fired) >= 0.9


@given(st.floats(0.0, 3.0), st.integers(2, 20), st.floats(1e-4, 0.05))
def test_a_psi_is_above_its_threshold_exactly_when_its_p_value_is_below_one_percent(psi, bins, k):
    limit = drift.psi_threshold(bins, k, 0.10)
    if abs(psi - limit) > 1e-6:
        assert (psi > limit) == (drift.psi_p_value(psi, bins, k, 0.10) < 0.01)
    assert drift.psi_lower_bound(psi, bins, k) <= psi


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_never_fall_below_the_raw_ones_and_keep_their_order(p):
    q = drift.benjamini_hochberg(p)
    assert all(a >= b - 1e-12 and a <= 1 for a, b in zip(q, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.asarray(q)[order]) >= -1e-12).all()


def test_benjamini_hochberg_matches_scipy():
    from scipy import stats

    p = [0.001, 0.2, 0.03, 0.04, 0.8]
    assert drift.benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))


@given(counts, counts)
def test_distances_stay_in_their_ranges(a, b):
    if not sum(a) or not sum(b):
        return
    assert 0 <= distances.jensen_shannon_distance(a, b) <= 1
    assert 0 <= distances.l_infinity(a, b) <= 1
    assert distances.standardised_wasserstein(a, b, np.arange(10)) >= 0
    assert distances.jensen_shannon_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_disjoint_counts_have_a_jensen_shannon_distance_of_one():
    assert distances.jensen_shannon_distance([5, 0], [0, 9]) == pytest.approx(1)


def test_wasserstein_counts_the_shift_in_reference_sigmas():
    assert distances.standardised_wasserstein([1, 1, 0], [0, 1, 1], [0, 1, 2]) == pytest.approx(2)


def test_accuracy_is_estimated_through_the_calibration_map():
    calibration = {"edges": [0, 0.5, 1], "accuracy": [0.2, 0.9]}
    assert distances.estimate_accuracy([50, 50], calibration) == pytest.approx(0.55)
    assert distances.estimate_accuracy([50, 50], None) is None


def _tilted(target):
    base, axis, low, high = np.full(10, 0.1), np.linspace(-1, 1, 10), 0.0, 4.0
    for _ in range(60):
        middle = (low + high) / 2
        shares = np.exp(middle * axis)
        shares /= shares.sum()
        psi = float(np.sum((shares - base) * np.log(shares / base)))
        low, high = (middle, high) if psi < target else (low, middle)
    return shares


settings.register_profile("ingest", deadline=None)
settings.load_profile("ingest")
