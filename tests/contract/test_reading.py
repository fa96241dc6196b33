"""What outputs mean: one logic on both sides, over the graphs that exporters write."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import edge_agent.reading
import registry.reading
from edge_agent.reading.contract import parse_contract
from registry.validation.contract.facts import gather_facts, words_of
from registry.validation.contract.inference import UnclearError, infer_contract
from registry.validation.contract.trial import try_rows
from registry.validation.feeds import choose_specs, draw_rows
from registry.validation.rules import RuleError, extract_signature
from registry.validation.running import open_session
from tests.edge_agent.releases import make_session
from tests.factories import exports

make_node = helper.make_node
LABELS = ("a", "b", "c")


def test_both_sides_read_by_the_same_text() -> None:
    ours, theirs = (
        {path.name: path.read_text() for path in Path(package.__path__[0]).glob("*.py")}
        for package in (registry.reading, edge_agent.reading)
    )
    assert ours == theirs


def infer(
    data: bytes,
    folder: Path,
    *,
    task: str = "classification",
    labels: Sequence[str] = (),
    **given: Any,
) -> dict[str, Any]:
    """The contract that an upload of the graph gets, as the validating child infers it."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    model = onnx.load(path)
    signature = extract_signature(model)
    session = open_session(path)
    specs = choose_specs(signature["inputs"], {})
    specs = [spec.with_words(words_of(model.graph, spec.name)) for spec in specs]
    names = [item["name"] for item in signature["outputs"]]
    tried = try_rows(session, names, draw_rows(specs, 3))
    facts = gather_facts(model, signature).with_answers([answer.outputs for answer in tried])
    contract = infer_contract(
        facts,
        task=task,
        is_task_open=task == "classification" and not labels,
        labels=labels,
        given=given,
        batch_rows=[answer.rows for answer in tried],
    )
    return contract.to_document()


def read(
    folder: Path, data: bytes, contract: dict[str, Any], labels: Sequence[str], inputs: Any
) -> Any:
    """What the agent says of the inputs, by a manifest with the contract."""
    session = make_session(folder, data, contract=contract, labels=list(labels))
    return session.infer(inputs)


X = np.array([[0.5, -1.0, 2.0, 0.1]], dtype=np.float32)
IMAGE = np.random.default_rng(0).random((1, 3, 8, 8)).astype(np.float32)
PIXELS = np.random.default_rng(0).random((1, 3, 16, 16)).astype(np.float32)
LOGITS = X.astype(np.float64) @ np.random.default_rng(exports.SEED).normal(size=(4, 3))
SOFTMAX = np.exp(LOGITS - LOGITS.max()) / np.exp(LOGITS - LOGITS.max()).sum()
ONE = float(1 / (1 + np.exp(-(X @ np.random.default_rng(exports.SEED).normal(size=(4, 1)))))[0, 0])
STEPS = float((1 / (1 + np.exp(-LOGITS))).mean())


def classified(number: int, confidence: float) -> Callable[[Any], None]:
    def check(result: Any) -> None:
        assert (result.class_id, result.error) == (number, "")
        assert result.confidence == pytest.approx(confidence, abs=1e-5)

    return check


def measured(**expected: float) -> Callable[[Any], None]:
    def check(result: Any) -> None:
        assert (result.class_id, result.confidence, result.error) == (None, None, "")
        found = {name: result.measures[name] for name in expected}
        assert found == pytest.approx(expected, abs=1e-5)

    return check


def class_alone(result: Any) -> None:
    assert (result.class_id, result.confidence) == (2, None)


def any_class(result: Any) -> None:
    assert (result.class_id in (0, 1), result.error) == (True, "")


BEST = int(LOGITS.argmax())
#: name: graph, what is known beside it, fields the contract must have, input, what it must say.
TABLE: dict[str, tuple[bytes, dict[str, Any], dict[str, Any], Any, Callable[[Any], None]]] = {
    "scores before a softmax": (
        exports.linear(out="logits"), {"labels": LABELS},
        {"form": "scores", "activation": "softmax"}, X, classified(BEST, SOFTMAX.max()),
    ),
    "a softmax": (
        exports.linear(make_node("Softmax", ["logits"], ["y"])), {},
        {"form": "scores"}, X, classified(BEST, SOFTMAX.max()),
    ),
    "a softmax by hand": (
        exports.softmax_by_hand(), {}, {"form": "scores"}, X, classified(BEST, SOFTMAX.max()),
    ),
    "logarithms": (
        exports.linear(make_node("LogSoftmax", ["logits"], ["y"])), {},
        {"form": "scores", "activation": "exp"}, X, classified(BEST, SOFTMAX.max()),
    ),
    "the class alone": (
        exports.model_of(
            [make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)],
            [exports.value("x", exports.FLOAT, ["batch", 4])],
            [exports.value("y", exports.INT64, ["batch"])],
        ),
        {}, {"form": "label"}, X,
        class_alone,
    ),
    "one probability": (
        exports.one_sigmoid(), {"labels": ("no", "alexa")}, {"form": "binary"}, X,
        classified(int(ONE >= 0.5), max(ONE, 1 - ONE)),
    ),
    "a probability out of either branch": (
        exports.branches(), {}, {"form": "binary"}, X,
        classified(int(ONE >= 0.5), max(ONE, 1 - ONE)),
    ),
    "the mean of steps' probabilities": (
        exports.mean_of_steps(), {}, {"form": "binary"}, X,
        classified(int(STEPS >= 0.5), max(STEPS, 1 - STEPS)),
    ),
    "as many classes as an input has numbers": (
        exports.as_many_classes_as_numbers(), {}, {"form": "scores"},
        {"colour": np.array([["dark"]], dtype=object),
         "numbers": np.log(np.array([[0.1, 0.7, 0.2]], np.float32))},
        classified(1, 0.7),
    ),
    "one score of two labels": (
        exports.linear(width=1, out="logits"), {"labels": ("no", "yes")},
        {"form": "binary", "activation": "sigmoid"}, X,
        classified(int(ONE >= 0.5), max(ONE, 1 - ONE)),
    ),
    "several labels": (
        exports.linear(make_node("Sigmoid", ["logits"], ["y"])), {}, {"form": "multi_label"}, X,
        classified(BEST, float(1 / (1 + np.exp(-LOGITS.max())))),
    ),
    "several labels, with a flag for each": (
        exports.flags(), {}, {"form": "multi_label"}, X,
        classified(BEST, float(1 / (1 + np.exp(-LOGITS.max())))),
    ),
    "trees": (
        exports.forest(zipmap=False, classes=[0, 1, 2]), {}, {"form": "scores"}, X,
        classified(2, 0.8),
    ),
    "trees with maps": (
        exports.forest(zipmap=True, classes=[0, 1, 2]), {}, {"form": "map"}, X, classified(2, 0.8),
    ),
    "trees whose classes have names in another order": (
        exports.forest(zipmap=True, classes=["c", "a", "b"]), {"labels": LABELS},
        {"form": "map", "classes": ["c", "a", "b"], "class_ids": [2, 0, 1]}, X, classified(1, 0.8),
    ),
    "a regression": (
        exports.regressor(), {}, {"task": "regression"}, X,
        measured(value=float(X[0] @ [1, 2, 3, 4]) + 0.5),
    ),
    "a regression by its task": (
        exports.linear(width=1, out="logits"), {"task": "regression"}, {"form": "values"}, X,
        measured(value=float(np.log(ONE / (1 - ONE)))),
    ),
    "outliers": (
        exports.outliers(), {}, {"task": "anomaly"}, X, measured(anomaly_score=float(X.sum())),
    ),
    "a head of boxes, fields first": (
        exports.yolo(fields_first=True), {"labels": LABELS, "task": "detection"},
        {"form": "yolo", "class_axis": 1}, IMAGE,
        measured(boxes=2, box_score=0.9, share_1=1.0, share_0=0.0),
    ),
    "a head of boxes with objectness": (
        exports.yolo(fields_first=False), {"labels": LABELS, "task": "detection"},
        {"form": "yolo_objectness"}, IMAGE, measured(boxes=0, box_score=0),
    ),
    "boxes, scores and classes apart": (
        exports.ssd(), {}, {"task": "detection", "form": "boxes"}, IMAGE,
        measured(boxes=2, box_score=0.75),
    ),
    "a mask of classes": (
        exports.segmenter(
            make_node("ArgMax", ["logits"], ["y"], axis=1, keepdims=0),
            out=exports.value("y", exports.INT64, ["batch", 16, 16]),
        ),
        {}, {"task": "segmentation", "form": "mask"}, PIXELS, measured(share_other=1.0),
    ),
    "scores of pixels": (
        exports.segmenter(), {"task": "segmentation", "labels": LABELS},
        {"form": "scores", "class_axis": 1}, PIXELS, measured(),
    ),
    "a vector of length one": (
        exports.embedding(), {}, {"task": "embedding"},
        {"input_ids": np.array([[3, 5]]), "attention_mask": np.array([[1, 1]])}, measured(norm=1.0),
    ),
    "letters, the batch on the second axis": (
        exports.speech(), {"task": "sequence"},
        {"form": "ctc", "activation": "exp", "batch_axis": 1},
        np.zeros((6, 1, 2), np.float32), measured(),
    ),
    "voice activity": (
        exports.voice_activity(), {}, {"form": "binary"},
        {"input": np.ones((1, 9), np.float32), "state": np.zeros((2, 1, 4), np.float32),
         "sr": np.array(16000)},
        classified(1, float(1 / (1 + np.exp(-1)))),
    ),
    "texts and numbers": (
        exports.categories(), {}, {"form": "scores"},
        {"city": np.array([["oslo"]], dtype=object), "a": np.ones((1, 1), np.float32)},
        any_class,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_an_export_is_read_for_what_it_is(name: str, tmp_path: Path) -> None:
    data, known, fields, inputs, check = TABLE[name]
    contract = infer(data, tmp_path, **known)
    assert {key: contract.get(key) for key in fields} == fields
    assert parse_contract(contract).to_document() == contract
    check(read(tmp_path, data, contract, known.get("labels", ()), inputs))


UNCLEAR: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "one number": (exports.linear(width=1, out="logits"), {}, "regression"),
    "branches that do not agree": (exports.branches("Sigmoid", "Tanh"), {}, "made by If"),
    "numbers that no label map counts": (exports.linear(out="logits"), {}, "embedding"),
    "a tanh": (
        exports.linear(make_node("Tanh", ["logits"], ["y"])), {"labels": LABELS}, "Tanh",
    ),
    "boxes for a classifier with labels": (exports.ssd(), {"labels": LABELS}, "detection"),
    "letters of a picture, which are no mask": (exports.letters(), {}, "3 dimensions"),
    "a head whose classes nobody counts": (
        exports.yolo(fields_first=True), {"task": "detection"}, "objectness",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_allows_two_readings_is_asked(name: str, tmp_path: Path) -> None:
    data, known, word = UNCLEAR[name]
    with pytest.raises(UnclearError) as raised:
        infer(data, tmp_path, **known)
    assert word in str(raised.value) and "Seen: " in str(raised.value)


def test_what_a_person_says_holds(tmp_path: Path) -> None:
    data = exports.linear(width=1, out="logits")
    assert infer(data, tmp_path, task="classification", form="binary", activation="sigmoid")
    contract = infer(
        exports.linear(make_node("Tanh", ["logits"], ["y"])), tmp_path,
        form="scores", outputs={"scores": "y"}, activation="softmax",
    )  # fmt: skip
    assert (contract["form"], contract["activation"]) == ("scores", "softmax")
    with pytest.raises(RuleError, match="no_such"):
        infer(data, tmp_path, form="binary", outputs={"scores": "no_such"})


def test_outputs_that_are_not_what_the_contract_says_are_an_error(tmp_path: Path) -> None:
    data = exports.linear(out="logits")
    contract = {"task": "detection", "form": "rows", "outputs": {"boxes": "logits"}}
    assert read(tmp_path, data, contract, (), X).error == "unreadable"
