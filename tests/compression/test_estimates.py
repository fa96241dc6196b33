"""How far a job is and how long it will take."""

from hypothesis import given
from hypothesis import strategies as st

from compression.recipe.passes import PASSES
from compression.worker.estimates import MEASURING_SECONDS, estimate_progress, expect_seconds


def test_earlier_jobs_say_what_a_step_takes_and_usual_figures_the_rest():
    history = [{"prepare": 2.0}, {"prepare": 4.0}, {"prepare": 30.0}]
    assert expect_seconds(["prepare", "evaluate"], history) == {
        "prepare": 4.0,
        "evaluate": MEASURING_SECONDS,
    }


def test_a_pass_nobody_has_run_is_expected_to_take_what_it_declares():
    usual = {name: declared.usual_seconds for name, declared in PASSES.items()}
    assert expect_seconds(list(PASSES), []) == usual
    assert min(usual.values()) > 0


def test_a_recipe_that_goes_as_expected_is_half_way_in_the_middle():
    estimate = estimate_progress(expected=[10.0, 10.0], spent=[10.0], step_seconds=0.0, share=None)
    assert (estimate.fraction, estimate.eta_seconds) == (0.5, 10.0)


def test_a_recipe_that_takes_twice_as_long_has_its_rest_doubled():
    estimate = estimate_progress(
        expected=[10.0, 10.0, 10.0], spent=[20.0], step_seconds=10.0, share=0.5
    )
    assert (estimate.fraction, estimate.eta_seconds) == (0.5, 10.0 + 20.0)


def test_cached_steps_count_for_nothing():
    estimate = estimate_progress(
        expected=[0.0, 0.0, 8.0], spent=[0.0, 0.0], step_seconds=2.0, share=None
    )
    assert (estimate.fraction, estimate.eta_seconds) == (0.25, 6.0)


def test_a_step_that_says_nothing_never_claims_to_be_over():
    late = estimate_progress(expected=[4.0], spent=[], step_seconds=400.0, share=None)
    assert late.fraction < 1.0
    assert late.eta_seconds is not None and late.eta_seconds > 0


def test_a_time_budget_bounds_what_is_left_of_a_step():
    estimate = estimate_progress(
        expected=[25.0], spent=[], step_seconds=10.0, share=0.1, bound_seconds=25.0
    )
    assert estimate.eta_seconds == 15.0


@given(
    st.lists(st.floats(0.01, 1e4), min_size=1, max_size=8),
    st.integers(0, 8),
    st.floats(0, 1e5),
    st.none() | st.floats(0, 1),
)
def test_estimates_stay_in_range(expected, finished, step_seconds, share):
    spent = expected[: min(finished, len(expected))]
    estimate = estimate_progress(
        expected=expected, spent=spent, step_seconds=step_seconds, share=share
    )
    assert 0.0 <= estimate.fraction <= 1.0
    assert estimate.eta_seconds is not None and estimate.eta_seconds >= 0.0
