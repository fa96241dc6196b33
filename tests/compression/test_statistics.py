"""Accuracy intervals, divergence, gates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.measure.gates import judge_distance, judge_gates, outcome_of
from compression.measure.statistics import (
    collapse_flags,
    mean_divergence,
    measure_share,
    to_probabilities,
)
from compression.recipe.recipe import Gates


def test_the_interval_matches_a_published_value():
    # Newcombe (1998), table I: 81 of 263, score method without correction.
    interval = measure_share(81, 263)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_between_zero_and_one(pair):
    interval = measure_share(*pair)
    assert 0.0 <= interval.low <= interval.value <= interval.high <= 1.0


def test_probabilities_are_left_as_they_are_and_logits_become_them():
    rows = np.array([[0.25, 0.75], [1.0, 0.0]])
    assert np.array_equal(to_probabilities(rows), rows)
    assert np.allclose(to_probabilities(10 * rows).sum(axis=1), 1.0)


def test_divergence_is_zero_for_equal_scores_and_infinite_for_broken_ones():
    scores = np.random.default_rng(0).normal(size=(20, 5))
    assert mean_divergence(scores, scores) == pytest.approx(0.0, abs=1e-12)
    assert mean_divergence(scores, scores[:, ::-1]) > 0
    assert mean_divergence(scores, scores * np.nan) == np.inf


@pytest.mark.parametrize(
    ("scores", "flags"),
    [
        (np.full((3, 2), np.nan), ["non_finite"]),
        (np.zeros((3, 2)), ["all_zero"]),
        (np.ones((3, 2)), ["constant"]),
        (np.arange(6.0).reshape(3, 2), []),
    ],
)
def test_a_collapse_is_named(scores, flags):
    assert collapse_flags(scores) == flags


def make_report(**variant):
    values = {
        "bytes": 100,
        "latency": {"p95_ms": 2.0},
        "agreement": {"value": 0.97},
        "collapse_flags": [],
    }
    return {
        "variant": {**values, **variant},
        "accuracy_drop_points": 0.5,
        "has_labels": True,
    }


@pytest.mark.parametrize(
    ("gates", "outcome"),
    [
        (Gates(), "passed"),
        (Gates(max_accuracy_drop_points=0.4), "failed_gate"),
        (Gates(max_bytes=100), "passed"),
        (Gates(max_bytes=99), "failed_gate"),
        (Gates(max_p95_ms=1.9), "failed_gate"),
        (Gates(min_agreement=0.97), "passed"),
        (Gates(min_agreement=0.98), "failed_gate"),
    ],
)
def test_gates_judge_what_was_measured(gates, outcome):
    report = make_report()
    assert outcome_of(report, judge_gates(gates, report)) == outcome


def test_a_figure_that_was_not_measured_does_not_pass():
    report = make_report(latency=None)
    assert outcome_of(report, judge_gates(Gates(max_p95_ms=5.0), report)) == "failed_gate"


@pytest.mark.parametrize(
    ("error", "is_failed"),
    [(0.01, False), (1.0, False), (1.1, True), (35_650.0, True), (None, False)],
)
def test_answers_further_away_than_they_are_large_fail_whatever_their_class(error, is_failed):
    report = make_report(relative_error=error, agreement={"value": 1.0})
    report["task"] = "classification"
    verdict = judge_distance(report)
    assert (verdict is not None) == is_failed
    if verdict is not None:
        assert outcome_of(report, [verdict]) == "failed_gate"
        assert (verdict.gate, verdict.measured) == ("relative_error", error)


def test_a_collapsed_model_is_collapsed_whatever_its_gates_say():
    report = make_report(collapse_flags=["constant"])
    assert outcome_of(report, []) == "collapsed"
