"""The child process: limits, and what a hostile or broken one is answered with."""

import json

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compression.recipe.recipe import SCHEMA, parse_recipe
from compression.worker.supervisor import supervise
from servers.patience import CAP_SECONDS
from tests.compression.workers import children_of
from tests.factories.compression import make_model, make_samples, pack_npz


def write_order(folder, **limits):
    x, y = make_samples(64, seed=5)
    (folder / "evaluation.npz").write_bytes(pack_npz(x=x, y=y))
    (folder / "model.onnx").write_bytes(make_model().SerializeToString())
    recipe = parse_recipe({"schema": SCHEMA, "passes": [{"pass": "prepare"}]}).to_json()
    order = {
        "recipe": recipe,
        "limits": {**recipe["limits"], **limits},
        "source": "model.onnx",
        "calibration": None,
        "evaluation": "evaluation.npz",
        "done": [],
    }
    (folder / "order.json").write_text(json.dumps(order))


def run(folder, *, wall_seconds=CAP_SECONDS, should_stop=lambda: False):
    events = []
    outcome = supervise(
        folder,
        wall_seconds=wall_seconds,
        threads=1,
        on_event=events.append,
        should_stop=should_stop,
    )
    return outcome, events


def test_a_chain_reports_each_step_and_its_result(tmp_path):
    write_order(tmp_path)
    outcome, events = run(tmp_path)
    assert outcome.kind == "done", outcome
    assert [(event["name"], event["state"]) for event in events] == [
        ("prepare", "started"),
        ("prepare", "done"),
        ("evaluate", "started"),
    ]
    assert outcome.report["variant"]["agreement"]["value"] == 1.0


def test_the_memory_limit_ends_the_child_and_is_named(tmp_path):
    write_order(tmp_path, memory_bytes=24 * 1024**2)
    outcome, _ = run(tmp_path)
    assert (outcome.kind, outcome.code) == ("error", "out_of_memory")
    assert "25,165,824 bytes of memory that limits.memory_bytes allows" in outcome.message


def test_the_wall_limit_ends_the_child(tmp_path):
    write_order(tmp_path)
    outcome, _ = run(tmp_path, wall_seconds=0.01)
    assert outcome.kind == "timed_out"
    assert children_of(tmp_path) == []


def test_a_stop_ends_the_child(tmp_path):
    write_order(tmp_path)
    outcome, _ = run(tmp_path, should_stop=lambda: True)
    assert outcome.kind == "cancelled"
    assert children_of(tmp_path) == []


def test_a_file_that_is_no_model_is_an_error_with_its_reason(tmp_path):
    write_order(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    outcome, _ = run(tmp_path)
    assert (outcome.kind, outcome.code) == ("error", "model_unsupported")
    assert "not an ONNX model" in outcome.message


def test_memory_asked_for_only_while_running_ends_in_a_reason(tmp_path):
    """A few hundred bytes that no look at the graph tells from harmless ones."""
    write_order(tmp_path)
    model = make_model()
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(2.0**33, np.float32), "many"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0),
            helper.make_node("Max", ["peak", "many"], ["size"]),
            helper.make_node("Cast", ["size"], ["whole"], to=onnx.TensorProto.INT64),
            helper.make_node("Reshape", ["whole", "one"], ["shape"]),
            helper.make_node("Expand", ["peak", "shape"], ["filled"]),
            helper.make_node("ReduceMin", ["filled"], ["least"], keepdims=0),
            helper.make_node("Add", ["logits", "least"], ["y"]),
        ]
    )
    model.graph.output[0].name = "y"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    outcome, events = run(tmp_path)
    assert (outcome.kind, outcome.code) == ("error", "model_unsupported"), outcome.message
    assert "does not run on the evaluation samples" in outcome.message
    assert not events
