"""The decisions are right: the simulations' fast subset, each beside an exact binomial bound.

Seeds are fixed. A bound is the number of wrong decisions that a true rate equal to the aim would
exceed in one of ten thousand runs, so a failure means that the law has changed.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.decisions import classes, failures, gates

RUNS = 400


def most_wrong(aim: float, runs: int) -> float:
    """Percent of `runs` that a true share of `aim` exceeds in 0.01 % of cases."""
    return 100 * float(stats.binom.ppf(0.9999, runs, aim)) / runs


@pytest.mark.parametrize("weather", [0.0, 0.2])
@pytest.mark.parametrize(("effect", "right"), [(0.0, "pass"), (2 * gates.MARGIN, "fail")])
def test_five_canaries_decide_rightly_though_devices_differ_a_lot(
    effect: float, right: str, weather: float
) -> None:
    rng = np.random.default_rng(1)
    canary = gates.simulate(rng, 5, RUNS, effect, weather)
    control = gates.simulate(rng, 5, RUNS, 0.0, weather)
    fail, passed = gates.judge(canary, control)
    good, bad = (passed, fail) if right == "pass" else (fail, passed)
    assert bad <= most_wrong(0.02, RUNS)
    assert good >= 100 - most_wrong(0.05, RUNS)


@pytest.mark.parametrize("devices", [2, 3, 20])
def test_an_effect_equal_to_the_margin_is_decided_in_few_cases(devices: int) -> None:
    rng = np.random.default_rng(2)
    canary = gates.simulate(rng, devices, RUNS, gates.MARGIN)
    control = gates.simulate(rng, devices, RUNS, 0.0)
    assert max(gates.judge(canary, control)) <= most_wrong(0.05, RUNS)


@pytest.mark.parametrize("limit", failures.LIMITS)
def test_a_rollout_within_its_failure_limit_goes_on_and_a_bad_one_ends(limit: float) -> None:
    draws = np.random.default_rng(3).random((RUNS, failures.DEVICES))
    stopped = failures.stop_by_evidence(draws < limit / 2, limit) >= 0
    assert 100 * stopped.mean() <= most_wrong(0.01, RUNS)
    failed = draws < 5 * limit
    ends = failures.stop_by_evidence(failed, limit)
    assert (ends >= 0).all()
    assert np.median(failed.cumsum(axis=1)[np.arange(RUNS), ends]) <= 6


@pytest.mark.parametrize("kinds", [10, 201, 1000])
@pytest.mark.parametrize("likeness", [1e6, 20.0])
def test_a_collapse_onto_one_class_fails_at_any_number_of_classes(
    kinds: int, likeness: float
) -> None:
    rng = np.random.default_rng(4)
    runs = 12
    answers = [
        classes.judge(
            classes.simulate(rng, kinds, likeness, 1.0), classes.simulate(rng, kinds, likeness, 0.0)
        )
        for _ in range(runs)
    ]
    assert answers.count("fail") >= runs - 1 and "pass" not in answers


@pytest.mark.parametrize("kinds", [10, 201])
def test_a_harmless_release_never_fails_on_its_classes(kinds: int) -> None:
    rng = np.random.default_rng(5)
    answers = [
        classes.judge(
            classes.simulate(rng, kinds, 1e6, 0.0), classes.simulate(rng, kinds, 1e6, 0.0)
        )
        for _ in range(12)
    ]
    assert "fail" not in answers
    assert kinds > 10 or answers.count("pass") == 12
