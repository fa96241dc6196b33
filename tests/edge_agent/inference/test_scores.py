"""Scores, labels and latencies: what an answer says about itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.inference.latency import LatencyWindow
from edge_agent.reading.contract import Contract
from edge_agent.reading.reader import Reader
from edge_agent.reading.scores import SMALL, _rank_few, _rank_many, activate
from tests.edge_agent.publisher import make_model
from tests.edge_agent.releases import make_session

ACTIVATIONS = {
    "none": [0.2, 0.8],
    "sigmoid": [0.549834, 0.689974],
    "softmax": [0.354344, 0.645656],
}


def read_by(activation: str, labels: tuple[str, ...], top_k: int) -> Reader:
    contract = Contract("classification", "scores", {"scores": "s"}, activation)
    return Reader(contract, ["s"], labels, top_k)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_scores_become_probabilities(activation: str) -> None:
    scores: Any = np.array([0.2, 0.8])
    assert activate(scores, activation) == pytest.approx(ACTIVATIONS[activation], abs=1e-5)
    read = read_by(activation, ("no", "yes"), 2).read([scores[None]])
    assert [label for _, label, _ in read.top_k] == ["yes", "no"]
    assert [p for _, _, p in read.top_k][::-1] == pytest.approx(ACTIVATIONS[activation], abs=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", range(5))
def test_few_and_many_classes_are_read_alike(activation: str, seed: int) -> None:
    row = np.random.default_rng(seed).normal(size=SMALL).astype(np.float32)
    row[3] = row[9]
    few, many = _rank_few(row, activation, 5), _rank_many(row, activation, 5)
    assert few is not None and many is not None
    assert [i for i, _ in few] == [i for i, _ in many]
    assert [p for _, p in few] == pytest.approx([p for _, p in many], rel=1e-12)


def test_equal_scores_keep_the_order_of_their_classes() -> None:
    for classes in (4, SMALL + 1):
        read = read_by("softmax", (), 3).read([np.zeros((1, classes), dtype=np.float32)])
        assert [i for i, _, _ in read.top_k] == [0, 1, 2]


@pytest.mark.parametrize("classes", [2, SMALL + 2])
def test_huge_scores_do_not_overflow(classes: int) -> None:
    row = np.full((1, classes), -1e4)
    row[0, 0] = 1e4
    assert read_by("softmax", (), 1).read([row]).confidence == 1.0
    assert read_by("sigmoid", (), 1).read([row]).confidence == 1.0


@pytest.mark.parametrize("classes", [3, SMALL + 3])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_no_class(classes: int, value: float) -> None:
    row = np.zeros((1, classes))
    row[0, 1] = value
    read = read_by("softmax", (), 1).read([row])
    assert (read.class_id, read.confidence, read.error) == (None, None, "non_finite")


def test_a_class_without_a_label_goes_by_its_number() -> None:
    read = read_by("none", ("a",), 2).read([np.array([[0.1, 0.9]])])
    assert [label for _, label, _ in read.top_k] == ["1", "a"]


def test_the_scores_are_those_of_the_output_the_manifest_names(tmp_path: Path) -> None:
    session = make_session(tmp_path, make_model(), labels=["x", "y", "z"])
    result = session.infer(np.ones((1, 4), dtype=np.float32))
    best = int(result.outputs[0].argmax())
    assert (result.class_id, result.top_k[0][1]) == (best, "xyz"[best])


def test_latency_percentiles_cover_the_window_alone() -> None:
    window = LatencyWindow(100)
    assert window.stats() == {}
    for n in range(1000):
        window.add(1_000_000 if n < 900 else 2_000_000)
    stats = window.stats()
    assert (stats["count"], stats["p50_ms"], stats["p99_ms"]) == (1000, 2.0, 2.0)


def test_latency_percentiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).integers(1, 10**9, size=77)
    window = LatencyWindow(100)
    for value in values:
        window.add(int(value))
    stats = window.stats()
    expected = np.percentile(values, (50, 95, 99)) / 1e6
    assert [stats["p50_ms"], stats["p95_ms"], stats["p99_ms"]] == pytest.approx(expected, abs=1e-4)
    assert stats["avg_ms"] == pytest.approx(values.mean() / 1e6, abs=1e-4)
