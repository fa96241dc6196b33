"""What a search recommends, from figures alone."""

import numpy as np
import pytest

from compression.engine.search.judgement import (
    Candidate,
    choose_closest,
    find_front,
    is_clearly_worse,
    list_violations,
    recommend,
)
from compression.engine.search.space import (
    fits_at_best,
    fits_when_pruned,
    list_bases,
    list_formats,
    list_student_ratios,
)
from compression.recipe.recipe import Gates


def make_candidate(name, size, drop=0.0, p50=1.0, **over):
    values = {
        "accuracy": 0.95 - drop / 100,
        "drop_points": drop,
        "agreement": 0.99,
        "held_out_accuracy": 0.95 - drop / 100,
        "held_out_drop_points": drop,
        "held_out_agreement": 0.99,
        "p50_ms": p50,
        "p95_ms": 2 * p50,
        "judged_on": "full",
        "is_feasible": True,
    }
    return Candidate(name, [{"pass": "prepare"}], size, **{**values, **over})


@pytest.mark.parametrize(
    ("objective", "expected"), [("size", "small"), ("latency", "fast"), ("accuracy", "exact")]
)
def test_the_objective_decides_among_the_feasible(objective, expected):
    candidates = [
        make_candidate("small", 100, drop=0.9, p50=3.0),
        make_candidate("fast", 300, drop=0.8, p50=1.0),
        make_candidate("exact", 200, drop=0.0, p50=2.0),
        make_candidate("not feasible at all", 50, drop=9.0, p50=0.1, is_feasible=False),
        make_candidate("judged on a subset", 60, drop=-1.0, p50=0.1, judged_on="subset"),
    ]
    choice = recommend(candidates, Gates(), objective)
    assert choice.candidate.name == expected
    assert choice.is_held_out and not choice.passed_over


def test_latencies_within_noise_of_each_other_are_told_apart_by_size():
    candidates = [make_candidate("large", 200, p50=1.0), make_candidate("small", 100, p50=1.04)]
    assert recommend(candidates, Gates(), "latency").candidate.name == "small"
    candidates[1].p50_ms = 1.06
    assert recommend(candidates, Gates(), "latency").candidate.name == "large"


def test_the_held_out_rows_choose_and_the_evaluation_set_only_refuses():
    kind = make_candidate("kind on the evaluation set", 100, held_out_accuracy=0.90)
    steady = make_candidate("steady", 100, drop=0.5, held_out_accuracy=0.96)
    choice = recommend([kind, steady], Gates(), "accuracy")
    assert choice.candidate is steady and choice.is_held_out
    steady.is_feasible = False
    choice = recommend([kind, steady], Gates(), "accuracy")
    assert choice.candidate is kind
    assert choice.passed_over == ("steady",) and not choice.is_held_out


def test_what_breaks_a_limit_on_the_held_out_rows_comes_last_and_is_told():
    doubtful = make_candidate("doubtful", 100, held_out_drop_points=1.2)
    sure = make_candidate("sure", 200)
    assert recommend([doubtful, sure], Gates(), "size").candidate is sure
    choice = recommend([doubtful], Gates(), "size")
    assert choice.candidate is doubtful and not choice.is_held_out


def test_nothing_feasible_is_no_choice():
    choice = recommend([make_candidate("it", 100, is_feasible=False)], Gates(), "size")
    assert choice.candidate is None and choice.passed_over == ("it",)


def test_the_front_holds_what_nothing_beats():
    front = find_front(
        [
            make_candidate("small", 100, drop=1.0, p50=2.0),
            make_candidate("exact", 200, drop=0.0, p50=2.0),
            make_candidate("beaten", 200, drop=1.0, p50=2.0),
            make_candidate("collapsed", 10, collapse_flags=["constant"]),
        ]
    )
    assert [candidate.name for candidate in front] == ["small", "exact"]


CONSTRAINTS = {
    "points": (Gates(max_accuracy_drop_points=0.5), {"drop": 0.6}),
    "bytes": (Gates(max_bytes=99), {}),
    "latency": (Gates(max_p95_ms=1.9), {}),
    "agreement": (Gates(min_agreement=0.995), {}),
    "collapse": (Gates(), {"collapse_flags": ["all_zero"]}),
}


@pytest.mark.parametrize("case", CONSTRAINTS)
def test_each_broken_constraint_is_named(case):
    gates, over = CONSTRAINTS[case]
    assert len(list_violations(make_candidate("it", 100, **over), gates)) == 1
    assert not list_violations(make_candidate("it", 90, drop=0.4, agreement=1.0), Gates(None))


def test_the_closest_breaks_the_constraints_least():
    gates = Gates(max_accuracy_drop_points=1.0, max_bytes=100)
    candidates = [make_candidate("large", 200), make_candidate("inaccurate", 90, drop=1.2)]
    assert choose_closest(candidates, gates).name == "inaccurate"


def test_few_rows_rule_nothing_out_that_many_would_admit():
    right = np.ones(50, bool)
    hits = right.copy()
    hits[0] = False
    assert not is_clearly_worse(right, hits, 1.0), "2 points on 50 rows are one row"
    hits[:20] = False
    assert is_clearly_worse(right, hits, 1.0)
    assert not is_clearly_worse(right, hits, 60.0)


def test_what_cannot_fit_is_known_before_it_is_built():
    by_name = {form.name: form for form in list_formats()}
    assert fits_at_best(1000, by_name["w8"], 1000)
    assert not fits_at_best(1001, by_name["w8"], 1000)
    assert not fits_at_best(501, by_name["fp16"], 1000)
    assert fits_when_pruned(4000, 0.5, 1000)
    assert not fits_when_pruned(4000, 0.4, 1000)


def list_some(max_ratio, *, can_train, **over):
    return list_bases(max_ratio, "size", can_train=can_train, source_bytes=400_000, **over)


def test_training_comes_last_and_only_where_it_can_run():
    assert not any(base.is_trained for base in list_some(0.8, can_train=False))
    flags = [base.is_trained for base in list_some(0.8, can_train=True)]
    assert flags == sorted(flags)
    assert any(flags)
    assert [base.name for base in list_some(0.0, can_train=False)] == [""]


def test_a_student_is_cut_to_what_is_allowed():
    assert list_student_ratios(400_000, 20_000) == [21.05, 42.1]
    assert list_student_ratios(400_000, 150_000) == [5.62]
    assert list_student_ratios(400_000, 300_000) == []
    names = [base.name for base in list_some(0.0, can_train=True, max_bytes=20_000)]
    assert names == ["", "student21.05x", "student42.1x", "student"]
