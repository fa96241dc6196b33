"""The evidence that too many devices fail."""

from __future__ import annotations

import math
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rules.failure_rate import (
    E_VALUE_LIMIT,
    devices_to_notice,
    failure_e_value,
    failures_that_stop,
    find_power,
    is_rate_exceeded,
    noticed_rate,
)


@pytest.mark.parametrize("limit", [0.01, 0.1, 0.5])
def test_the_e_value_is_fair_at_the_limit(limit: float) -> None:
    """Its mean over all outcomes of n devices is at most one: it is a martingale there.

    Without failures one is said instead of less, which the mean leaves room for.
    """
    n = 12
    mean = sum(
        comb(n, k) * limit**k * (1 - limit) ** (n - k) * failure_e_value(k, n - k, limit)
        for k in range(1, n + 1)
    )
    assert mean <= 1.0


def test_the_e_value_grows_with_failures() -> None:
    values = [failure_e_value(k, 5, 0.1) for k in range(1, 6)]
    assert values == sorted(values) and values[-1] > E_VALUE_LIMIT


@given(st.integers(0, 10**7), st.integers(0, 10**12), st.floats(0, 1))
def test_the_e_value_is_a_number_whatever_the_counts(failed: int, good: int, limit: float) -> None:
    assert failure_e_value(failed, good, limit) >= 0
    assert not math.isnan(failure_e_value(failed, good, limit))


def test_a_limit_of_nothing_is_broken_by_the_second_failure() -> None:
    assert not is_rate_exceeded(1, 1000, 0.0) and is_rate_exceeded(2, 1000, 0.0)
    assert not is_rate_exceeded(1000, 0, 1.0)


@given(st.sampled_from([0.01, 0.05, 0.1, 0.3]), st.integers(1, 60))
def test_the_least_number_of_failures_that_ends_a_rollout_is_the_rule_itself(
    limit: float, finished: int
) -> None:
    least = failures_that_stop(limit, 60)[finished]
    assert least > finished or is_rate_exceeded(least, finished - least, limit)
    assert not is_rate_exceeded(least - 1, finished - least + 1, limit)


def test_power_is_exact_for_two_devices() -> None:
    """At a limit of 10 % two failures of two end it, and nothing else does."""
    assert failures_that_stop(0.1, 2) == (1, 2, 2)
    power = find_power(0.4, 2, 0.1, success_threshold=0.95)
    assert power.stops == pytest.approx(0.16) and power.holds == pytest.approx(1 - 0.36)


def test_power_says_what_five_devices_notice_and_what_a_rate_needs() -> None:
    seen = noticed_rate(5, 0.1, success_threshold=0.95)
    assert seen == pytest.approx(0.37)  # 1 − 0.63⁵ = 0.90: one failure of five holds the stage
    assert noticed_rate(0, 0.1) is None
    assert devices_to_notice(0.3, 0.1) == 59
    assert devices_to_notice(0.05, 0.1) is None
