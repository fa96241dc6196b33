"""Models of every task and kind of input, through whole recipes: fed, measured and judged."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from compression.engine.run_recipe import run_chain
from compression.engine.stages.check import check
from compression.engine.stages.load import load
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.evaluation import evaluate_variant
from compression.measure.gates import judge_distance
from compression.measure.models import OpenModel
from compression.recipe.presets import get_preset
from compression.recipe.recipe import Target, parse_recipe
from registry.reading.contract import parse_contract
from registry.reading.reader import Reader
from tests.factories.task_models import TASK_MODELS, Arrays, TaskModel

ROWS = 96
RECIPES = {
    "dynamic": get_preset("dynamic-int8").recipe["passes"],
    "static": get_preset("static-int8").recipe["passes"],
    "half": get_preset("fp16").recipe["passes"],
    "mixed": get_preset("mixed").recipe["passes"],
    "pruned": [{"pass": "prepare"}, {"pass": "prune.structured", "ratio": 0.1, "align": 1}],
}
# A search runs the model often: two with odd inputs and two odd outputs are enough.
MIXED = ("voice_activity", "time_first", "tokens", "segmenter")
PRUNED = (
    "picture_and_gain", "detector", "selecting_detector", "segmenter", "embedding",
    "several_labels",
)  # fmt: skip
CASES = [
    *((name, recipe) for name in TASK_MODELS for recipe in ("dynamic", "static", "half")),
    *((name, "mixed") for name in MIXED),
    *((name, "pruned") for name in PRUNED),
]
FIGURES = {
    "classification": set(),
    "regression": {"mean_absolute_error", "root_mean_square_error", "variance_explained"},
    "detection": {"boxes_of_source", "boxes", "boxes_f1"},
    "segmentation": {"mean_iou", "pixels"},
    "embedding": {"mean_cosine", "least_cosine"},
    "sequence": {"label_error_rate", "same_sequences"},
}


def write_order(folder: Path, made: TaskModel, passes: Any, **over: Any) -> dict[str, Any]:
    generator = np.random.default_rng(3)
    onnx.save(made.model, str(folder / "model.onnx"))
    for name in ("calibration", "evaluation"):
        np.savez(folder / f"{name}.npz", **made.draw(generator, ROWS))  # type: ignore[arg-type]
    recipe = {
        "schema": "compress/1",
        "passes": passes,
        "data": {"min_calibration": ROWS},
        "gates": {"min_agreement": 0.85, "max_accuracy_drop_points": 5.0},
    }
    return {
        "recipe": parse_recipe(recipe).to_json(),
        "source": "model.onnx",
        "calibration": "calibration.npz",
        "evaluation": "evaluation.npz",
        "done": [],
        "contract": made.contract,
        **over,
    }


def run(folder: Path, made: TaskModel, passes: Any, **over: Any) -> dict[str, Any]:
    order = write_order(folder, made, passes, **over)
    return run_chain(order, folder, lambda *args, **values: None)


def call_with_row(name: str, arrays: Arrays, row: int) -> Arrays:
    """What a device gives the model for one row, written down by hand."""
    only = slice(row, row + 1)
    if name == "voice_activity":
        state = arrays["state"][row][:, None]
        return {"input": arrays["input"][only], "state": state, "sr": arrays["sr"]}
    if name == "echo":
        return {"x": arrays["x"][only], "memory": np.zeros((1, 32), np.float32)}
    if name == "time_first":
        return {"x": np.ascontiguousarray(arrays["x"][row][:, None])}
    if name == "picture_and_gain":
        return {"x": arrays["x"][only], "gain": arrays["gain"]}
    return {key: value[only] for key, value in arrays.items() if key != "y"}


def answer_rows(path: Path, name: str, arrays: Arrays, count: int) -> list[list[NDArray[Any]]]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run(None, call_with_row(name, arrays, row)) for row in range(count)]


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_a_model_of_each_kind_is_compressed_measured_and_offered(
    name: str, recipe: str, tmp_path: Path
) -> None:
    made = TASK_MODELS[name]()
    report = run(tmp_path, made, RECIPES[recipe])
    assert report["outcome"] == "passed", (report["gates"], report["variant"]["collapse_flags"])
    task = made.contract["task"]
    figures = {"labels_f1"} if made.contract["form"] == "multi_label" else FIGURES[task]
    assert report["task"] == task
    assert set(report["variant"]["task_figures"]) == figures
    assert report["variant"]["relative_error"] < (0.5 if recipe == "pruned" else 0.06)
    assert report["samples"] == ROWS
    has_truth = made.contract["form"] in ("scores", "binary") and task == "classification"
    assert (report["variant"]["accuracy"] is not None) == has_truth
    # What a device makes of single rows is what was measured.
    arrays = dict(np.load(tmp_path / "evaluation.npz"))
    contract = parse_contract(made.contract)
    names = [item.name for item in made.model.graph.output]
    reader = Reader(contract, names, (), top_k=1)
    pairs = [
        [reader.read(outputs) for outputs in answer_rows(path, name, arrays, 24)]
        for path in (tmp_path / "model.onnx", tmp_path / report["file"])
    ]
    if has_truth:
        same = [left.class_id == right.class_id for left, right in zip(*pairs, strict=True)]
        assert np.mean(same) >= 0.8
    else:
        left, right = (np.array([reading.measures for reading in side]) for side in pairs)
        scale = np.sqrt((left**2).mean(axis=0)) + 1e-6
        assert np.sqrt((((left - right) / scale) ** 2).mean()) < 0.5


@pytest.mark.parametrize("name", TASK_MODELS)
def test_the_answers_are_those_of_calls_with_one_row(name: str, tmp_path: Path) -> None:
    """Whatever axis holds the rows, and however many go at once."""
    made = TASK_MODELS[name]()
    checked = check(load(write_order(tmp_path, made, RECIPES["dynamic"]), tmp_path))
    answers = checked.scoring.score_model(checked.original, checked.evaluation)
    arrays = dict(np.load(tmp_path / "evaluation.npz"))
    names = [item.name for item in made.model.graph.output]
    by_hand = answer_rows(tmp_path / "model.onnx", name, arrays, ROWS)
    assert len(answers) == ROWS
    for output, values in answers.outputs.items():
        for row in range(ROWS):
            wanted = by_hand[row][names.index(output)].reshape(-1)
            found = values[row].reshape(-1)[: wanted.size]
            np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-5)


def break_weights(made: TaskModel, name: str, path: Path) -> None:
    """The model with one tensor's numbers in another order: as large, and wrong."""
    model = onnx.ModelProto()
    model.CopyFrom(made.model)
    tensor = next(item for item in model.graph.initializer if item.name == name)
    values = onnx.numpy_helper.to_array(tensor)
    mixed = np.random.default_rng(0).permutation(values.reshape(-1)).reshape(values.shape)
    tensor.CopyFrom(onnx.numpy_helper.from_array(mixed, name))
    onnx.save(model, str(path))


BROKEN = {
    "echo": ("w", 0.3), "time_first": ("h", 0.6), "picture_and_gain": ("w1", 0.3),
    "detector": ("wc", 0.6), "segmenter": ("wc", 0.6), "embedding": ("h", 0.6),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_model_is_told_by_its_task_and_stopped(name: str, tmp_path: Path) -> None:
    made = TASK_MODELS[name]()
    tensor, most = BROKEN[name]
    checked = check(load(write_order(tmp_path, made, RECIPES["dynamic"]), tmp_path))
    break_weights(made, tensor, tmp_path / "broken.onnx")
    report = evaluate_variant(
        checked.original,
        OpenModel(tmp_path / "broken.onnx"),
        checked.evaluation,
        target=Target(),
        scoring=checked.scoring,
    )
    assert report["variant"]["agreement"]["value"] < most
    verdict = judge_distance(report)
    assert verdict is not None and not verdict.passed
    assert verdict.gate in ("relative_error", "task_agreement")


def test_labels_are_held_against_the_class_and_not_its_column(tmp_path: Path) -> None:
    """The model's columns stand in another order than the label map."""
    made = TASK_MODELS["tokens"]()
    ids = [2, 0, 3, 1]
    order = write_order(
        tmp_path, made, RECIPES["dynamic"], contract={**made.contract, "class_ids": ids}
    )
    arrays = dict(np.load(tmp_path / "evaluation.npz"))
    answers = answer_rows(tmp_path / "model.onnx", "tokens", arrays, ROWS)
    arrays["y"] = np.array([ids[int(outputs[0].argmax())] for outputs in answers])
    np.savez(tmp_path / "evaluation.npz", **arrays)  # type: ignore[arg-type]
    report = run_chain(order, tmp_path, lambda *args, **values: None)
    assert report["source"]["accuracy"]["value"] == report["source"]["macro_f1"] == 1.0


def test_a_missing_state_is_named_before_any_pass(tmp_path: Path) -> None:
    order = write_order(tmp_path, TASK_MODELS["voice_activity"](), RECIPES["dynamic"])
    arrays = dict(np.load(tmp_path / "evaluation.npz"))
    del arrays["state"]
    np.savez(tmp_path / "evaluation.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataSetUnusableError, match=r"each input, \['input', 'state'\]"):
        run_chain(order, tmp_path, lambda *args, **values: None)


@pytest.mark.parametrize(
    ("name", "passes", "words"),
    [
        ("time_first", "finetune.kd", "rows on the first axis of every input; 'x' has them on"),
        ("echo", "finetune.kd", "rows on the first axis of every input; 'memory' has none"),
        ("time_first", "prune.structured", "No channel of this model can be removed"),
    ],
)
def test_what_a_pass_cannot_feed_is_refused_by_name(
    name: str, passes: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        run(tmp_path, TASK_MODELS[name](), [{"pass": passes}])
