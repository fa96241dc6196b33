"""How the zoo judges: what is wrong, what is good, and which refusals are not right."""

import numpy as np
import pytest

from benchmarks.zoo.judging import (
    Cell,
    failures_where_a_peer_succeeds,
    is_read_as,
    judge_cell,
)
from benchmarks.zoo.trial import distance

TRIED = {"error": 0.1, "unreadable": 0, "latency_ratio": 1.2}


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({"agreement": 0.9, "confidence_moved": 0.15}, "done"),
        ({"agreement": 0.89, "confidence_moved": 0.0}, "wrong"),
        ({"agreement": 1.0, "confidence_moved": 0.16}, "wrong"),
        ({"agreement": 1.0, "unreadable": 1}, "wrong"),
        ({"error": 0.5}, "done"),
        ({"error": 0.51}, "wrong"),
        ({"error": float("nan")}, "wrong"),
        ({"error": "ended by SIGSEGV"}, "wrong"),
    ],
)
def test_answers_that_are_not_the_sources_are_wrong(row: dict[str, object], state: str) -> None:
    assert judge_cell("m", "t", "static", row=TRIED | row, ratio=2.0).state == state


def test_a_refusal_counts_where_a_peer_of_its_kind_makes_a_good_smaller_file() -> None:
    ours = [Cell("m", "aviary", kind, "refused", "why") for kind in ("static", "dynamic", "fp16")]
    peers = [
        Cell("m", "good", "static", "done", agreement=0.95, ratio=3.0),
        Cell("m", "no smaller", "dynamic", "done", agreement=1.0, ratio=1.0),
        Cell("m", "poor", "fp16", "done", error=0.3, ratio=2.0),
        Cell("other", "good", "dynamic", "done", error=0.0, ratio=3.0),
    ]
    assert failures_where_a_peer_succeeds(ours, peers) == ours[:1]


def test_boxes_do_not_hide_that_their_scores_are_lost() -> None:
    boxes = np.full((1, 6, 10), 300.0)
    boxes[:, 4:] = 0.5
    lost = boxes.copy()
    lost[:, 4:] = 0.0
    assert distance([boxes], [lost], boxes_axis=None) < 0.01
    assert distance([boxes], [lost], boxes_axis=1) == pytest.approx(1.0)


def test_answers_of_another_shape_or_not_finite_are_infinitely_far() -> None:
    assert distance([np.ones(3)], [np.ones(4)], boxes_axis=None) == float("inf")
    assert distance([np.ones(3)], [np.full(3, np.nan)], boxes_axis=None) == float("inf")


READ = {"task": "sequence", "form": "tags", "outputs": {"scores": "N"}, "activation": "softmax"}
MEANT = {"task": "sequence", "form": "tags", "output": "N", "activation": "softmax"}


@pytest.mark.parametrize("field", MEANT)
def test_a_contract_is_right_in_all_of_what_the_catalogue_says_or_it_is_wrong(field: str) -> None:
    assert is_read_as(READ, **MEANT)
    assert not is_read_as(READ, **MEANT | {field: "another"})


def test_what_reads_no_output_names_none() -> None:
    nothing = {"task": "other", "form": "none", "outputs": {}}
    meant = {"task": "other", "form": "none", "activation": "none"}
    assert is_read_as(nothing, output="", **meant)
    assert not is_read_as(nothing, output="y", **meant)
