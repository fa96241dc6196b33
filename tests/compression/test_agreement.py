"""When two answers agree, by task."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compression.measure.agreement import choose_rule, edit_distance, read_greedily
from compression.measure.answers import Answers
from compression.measure.distance import find_excess
from compression.measure.scoring import Scoring
from registry.reading.contract import TASKS, Contract, parse_contract


def answers_of(contract: dict[str, Any], *rows: Any) -> Answers:
    parsed = parse_contract({"outputs": {ROLES[contract["task"]]: "y"}, **contract})
    return Answers({"y": np.array(rows)}, parsed)


ROLES = {
    "classification": "scores", "regression": "values", "detection": "boxes",
    "segmentation": "scores", "embedding": "vector", "sequence": "scores", "anomaly": "score",
}  # fmt: skip


def compare(contract: dict[str, Any], left: Any, right: Any) -> tuple[list[float], dict[str, Any]]:
    one, other = answers_of(contract, *left), answers_of(contract, *right)
    rows, figures = choose_rule(one.contract).compare(one, other)
    return rows.tolist(), figures


def one_hot(*classes: int) -> NDArray[np.float64]:
    return np.eye(4)[list(classes)]


def box(x: float, y: float, side: float, score: float, number: float) -> list[float]:
    return [x, y, x + side, y + side, score, number]


def test_classes_agree_or_do_not() -> None:
    contract = {"task": "classification", "form": "scores"}
    assert compare(contract, [[1, 2], [3, 1]], [[0, 9], [0, 1]])[0] == [1.0, 0.0]


def test_one_score_is_two_classes_on_both_sides_of_the_threshold() -> None:
    contract = {"task": "classification", "form": "binary", "activation": "sigmoid"}
    assert compare(contract, [[0.1], [-0.1], [2.0]], [[5.0], [0.1], [0.2]])[0] == [1.0, 0.0, 1.0]


def test_several_labels_agree_by_their_f1() -> None:
    contract = {"task": "classification", "form": "multi_label"}
    left, right = [[0.9, 0.8, 0.1], [0.1, 0.2, 0.3]], [[0.9, 0.1, 0.1], [0.1, 0.2, 0.3]]
    rows, figures = compare(contract, left, right)
    assert rows == [pytest.approx(2 / 3), 1.0]
    assert figures["labels_f1"] == pytest.approx(2 / 3)


def test_labels_alone_are_compared_as_names() -> None:
    contract = {
        "task": "classification", "form": "label", "outputs": {"label": "y"},
        "classes": ["ant", "bee"],
    }  # fmt: skip
    assert compare(contract, ["ant", "bee"], ["bee", "bee"])[0] == [0.0, 1.0]
    scoring, other = Scoring(parse_contract(contract)), answers_of(contract, "ant", "wasp")
    assert scoring.hits(other, np.array([0, 1])).tolist() == [True, False]


def test_values_have_an_error_in_their_own_unit() -> None:
    rows, figures = compare(
        {"task": "regression", "form": "values"}, [[10.0], [20.0]], [[11], [20]]
    )
    assert rows == [0.0, 1.0]
    assert figures["mean_absolute_error"] == 0.5
    assert figures["root_mean_square_error"] == pytest.approx(np.sqrt(0.5))
    assert figures["variance_explained"] == pytest.approx(0.98)


def test_boxes_are_matched_once_by_place_and_class() -> None:
    contract = {"task": "detection", "form": "rows"}
    left = [
        [box(0, 0, 10, 0.9, 0), box(50, 50, 10, 0.8, 1)],
        [box(0, 0, 10, 0.9, 0), box(0, 0, 0, 0.0, 0)],
        [box(0, 0, 0, 0.0, 0), box(0, 0, 0, 0.0, 0)],
    ]
    right = [
        [box(2, 0, 10, 0.9, 0), box(50, 50, 10, 0.8, 2)],  # moved a little; another class
        [box(1, 0, 10, 0.9, 0), box(0, 1, 10, 0.8, 0)],  # the same thing twice
        [box(0, 0, 0, 0.0, 0), box(0, 0, 0, 0.0, 0)],  # nothing on either side says nothing
    ]
    rows, figures = compare(contract, left, right)
    assert rows == [0.5, pytest.approx(2 / 3)]
    assert figures["boxes_of_source"] == 1.0 and figures["boxes"] == pytest.approx(4 / 3)
    assert figures["boxes_f1"] == pytest.approx(4 / 7)


def test_a_frame_that_is_not_finite_agrees_with_nothing() -> None:
    contract = {"task": "detection", "form": "rows"}
    empty, broken = [[box(0, 0, 0, 0.0, 0)]], [[box(0, 0, 0, np.nan, 0)]]
    assert compare(contract, empty, broken)[0] == [0.0]
    assert compare(contract, empty, empty)[0] == [1.0]


def test_pixels_are_counted_and_classes_weigh_alike() -> None:
    contract = {"task": "segmentation", "form": "mask", "outputs": {"mask": "y"}}
    rows, figures = compare(contract, [[[0, 0], [0, 1]]], [[[0, 0], [1, 1]]])
    assert rows == [0.75]
    assert figures["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_pixels_are_read_along_the_axis_of_classes() -> None:
    contract = {"task": "segmentation", "form": "scores", "class_axis": 1}
    left = np.moveaxis(one_hot(0, 1, 2, 3).reshape(1, 2, 2, 4), 3, 1)
    right = np.moveaxis(one_hot(0, 1, 2, 2).reshape(1, 2, 2, 4), 3, 1)
    assert compare(contract, left, right)[0] == [0.75]


def test_vectors_agree_by_their_angle() -> None:
    contract = {"task": "embedding", "form": "vector"}
    rows, figures = compare(contract, [[1.0, 0], [0, 2.0]], [[3.0, 0], [0, -1.0]])
    assert rows == [1.0, 0.0]
    assert figures == {"mean_cosine": 0.0, "least_cosine": -1.0}


def test_texts_agree_by_their_edits_and_not_by_their_steps() -> None:
    contract = {"task": "sequence", "form": "ctc", "blank": 0}
    left, right = one_hot(1, 1, 0, 2, 3, 0), one_hot(0, 1, 0, 2, 0, 3)
    assert compare(contract, [left], [right])[0] == [1.0]
    rows, figures = compare(contract, [left], [one_hot(1, 2, 2, 0, 0, 0)])
    assert rows == [pytest.approx(2 / 3)]
    assert figures["label_error_rate"] == pytest.approx(1 / 3)


def test_tags_agree_step_by_step() -> None:
    contract = {"task": "sequence", "form": "tags"}
    assert compare(contract, [one_hot(1, 2, 0, 3)], [one_hot(1, 2, 0, 0)])[0] == [0.75]


def test_greedy_reading_keeps_what_a_blank_parts() -> None:
    assert read_greedily(np.array([1, 1, 0, 1, 2, 2, 0]), 0) == [1, 1, 2]


@pytest.mark.parametrize(
    ("left", "right", "edits"), [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3)]
)
def test_edits_are_the_fewest(left: str, right: str, edits: int) -> None:
    assert edit_distance([*map(ord, left)], [*map(ord, right)]) == edits


@pytest.mark.parametrize("task", TASKS)
def test_only_classes_may_move_by_as_much_as_they_are_large(task: str) -> None:
    for error in (0.49, 0.51, 1.01):
        excess = find_excess(task, error, 1.0, {})
        limit = 1.0 if task == "classification" else 0.5
        assert (excess is not None) == (error > limit)
        assert excess is None or (excess.gate, excess.limit) == ("relative_error", limit)


@pytest.mark.parametrize("task", TASKS)
def test_parts_have_to_agree_and_values_to_tell_something(task: str) -> None:
    is_of_parts = task in ("detection", "segmentation", "embedding", "sequence")
    assert (find_excess(task, 0.1, 0.7, {}) is not None) == is_of_parts
    assert find_excess(task, 0.1, 0.8, {}) is None
    is_of_values = task in ("regression", "anomaly")
    found = find_excess(task, 0.1, 1.0, {"variance_explained": -0.1})
    assert (found is not None) == is_of_values
    assert find_excess(task, 0.1, 1.0, {"variance_explained": 0.1}) is None


def test_scores_beside_coordinates_have_a_distance_of_their_own() -> None:
    contract = Contract("detection", "yolo", {"boxes": "y"}, class_axis=1)
    table = np.concatenate([np.full((1, 4, 8), 300.0), np.full((1, 3, 8), 0.5)], axis=1)
    wrong = table.copy()
    wrong[:, 4:] = 0.0
    scoring = Scoring(contract)
    error = scoring.relative_error(Answers({"y": table}, contract), Answers({"y": wrong}, contract))
    assert error == pytest.approx(1.0)
