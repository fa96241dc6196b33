"""Records follow the task: values, boxes and vectors, and no class where there is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.config import DriftConfig
from edge_agent.inference.table import Table
from edge_agent.observation.drift import DriftMonitor
from edge_agent.observation.sampling import take_first
from tests.edge_agent.publisher import MODEL
from tests.edge_agent.releases import Station
from tests.factories import exports

X = np.array([[0.5, -1.0, 2.0, 0.1]], dtype=np.float32)
IMAGE = np.zeros((1, 3, 8, 8), np.float32)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path)
    yield made
    made.close()


def test_a_regression_records_its_value_and_no_class(station: Station) -> None:
    contract = {"task": "regression", "form": "values", "outputs": {"values": "variable"}}
    station.put(exports.regressor(), contract=contract, labels=[])
    answer = station.serving.infer(X)
    (record,) = station.records()
    assert "class_id" not in record and "confidence" not in record and "error" not in record
    assert record["features"] == pytest.approx([X.mean(), X.std(), answer.result.measures["value"]])


def test_a_class_without_confidence_is_recorded_alone(station: Station) -> None:
    contract = {"task": "classification", "form": "label", "outputs": {"label": "label"}}
    station.put(exports.forest(zipmap=False, classes=[0, 1, 2]), contract=contract)
    station.serving.infer(X)
    (record,) = station.records()
    assert record["class_id"] == 2 and "confidence" not in record


def test_a_detector_records_boxes_per_frame(station: Station) -> None:
    contract = {
        "task": "detection", "form": "yolo", "outputs": {"boxes": "output0"}, "class_axis": 1,
        "threshold": 0.25,
    }  # fmt: skip
    station.put(exports.yolo(fields_first=True), contract=contract)
    answer = station.serving.infer(IMAGE)
    (record,) = station.records()
    assert record["features"][2:] == pytest.approx([2, 0.9, 0, 1, 0])
    assert [box.label for box in answer.result.boxes] == ["b", "b"]


def test_a_state_and_a_rate_belong_to_the_call(station: Station) -> None:
    contract = {
        "task": "classification", "form": "binary", "outputs": {"scores": "output"},
        "input_batch_axes": {"state": 1, "sr": None},
    }  # fmt: skip
    session = station.put(exports.voice_activity(), contract=contract, labels=["no", "yes"])
    inputs = {
        "sr": np.array(16000),
        "state": np.zeros((2, 1, 4), np.float32),
        "input": np.ones((1, 9), np.float32),
    }
    answer = station.serving.infer(inputs, checks_inputs=True)
    assert (answer.label, session.described) == ("yes", "input")
    assert station.records()[0]["features"] == [1.0, 0.0]
    axes = session.reader.contract.input_batch_axes
    kept = {name: take_first(array, axes.get(name, 0)).shape for name, array in inputs.items()}
    assert kept == {"sr": (), "state": (2, 4), "input": (9,)}


@pytest.mark.parametrize("texts", [np.array([["oslo"]]), np.array([["oslo"]], dtype=object)])
def test_texts_are_answered_and_described_by_their_lengths(station: Station, texts: Any) -> None:
    contract = {
        "task": "classification", "form": "scores", "outputs": {"scores": "probabilities"}
    }  # fmt: skip
    station.put(exports.categories(), contract=contract, labels=["a", "b"])
    inputs = {"city": texts, "a": np.ones((1, 1), np.float32)}
    assert station.serving.infer(inputs, checks_inputs=True).result.class_id in (0, 1)
    assert station.records()[0]["features"] == [4.0, 0.0]


def test_outputs_that_are_not_what_was_signed_count_as_failures(station: Station) -> None:
    contract = {"task": "detection", "form": "rows", "outputs": {"boxes": "variable"}}
    session = station.put(exports.regressor(), contract=contract)
    station.serving.infer(X)
    assert station.records()[0]["error"] == "unreadable"
    assert station.serving.traffic_of(MODEL, session.manifest.digest).non_finite == 1


def test_a_value_that_moves_is_found_on_the_device() -> None:
    edges = [float(n) for n in range(1, 64)]
    rows = [{"name": name, "edges": edges, "counts": [100] * 64} for name in ("a", "b", "value")]
    baseline = {
        "n": 6400, "has_classes": False, "has_confidence": False, "features": rows,
        "class": {"counts": [0]}, "confidence": {"counts": [0] * 64},
    }  # fmt: skip
    config = DriftConfig(min_records=200, look_records=200, check_interval_s=0.0)
    monitor = DriftMonitor(baseline, config)
    generator = np.random.default_rng(3)

    def feed(low: float, high: float, records: int, start: float) -> set[str]:
        fired = set()
        for number in range(records):
            a, b = generator.uniform(0, 64, size=2)
            monitor.add(None, None, [a, b, generator.uniform(low, high)])
            change = monitor.check(start + number, is_firing=False)
            if change is not None:
                fired.add(change.metric)
        return fired

    assert feed(0, 64, 2000, 0.0) == set()
    assert feed(56, 64, 4000, 3000.0) <= {"feature_psi:value", "feature_shift:value"}
    assert monitor.metrics()["feature_psi:value"].severity > 1
    assert not {"prediction_psi", "confidence_psi"} & set(monitor.metrics())


def test_rows_of_a_file_are_arranged_as_the_model_wants_them(station: Station) -> None:
    contract = {
        "task": "classification", "form": "binary", "outputs": {"scores": "output"},
        "input_batch_axes": {"state": 1, "sr": None},
    }  # fmt: skip
    session = station.put(exports.voice_activity(), contract=contract)
    table = Table(
        {
            "input": np.ones((3, 9), np.float32),
            "state": np.zeros((3, 2, 4), np.float32),
            "sr": np.array(16000),
            "y": np.zeros(3, np.int64),
        }
    )
    arranged = session.arrange(table.take(2))
    assert isinstance(arranged, dict)
    assert {name: array.shape for name, array in arranged.items()} == {
        "input": (1, 9), "state": (2, 1, 4), "sr": (),
    }  # fmt: skip
    station.serving.infer_row(table.take(0))
    del arranged["sr"]  # a rate belongs to the call, and may be left out
    station.serving.infer(arranged, checks_inputs=True)
    assert [row.get("error") for row in station.records()] == [None, None]
