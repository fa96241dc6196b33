"""Which axis holds the rows, and how a data set becomes calls of the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, load_from_string

from registry.validation.contract.trial import fit_batches
from registry.validation.feeds import choose_specs, fit_dataset
from registry.validation.rules import RuleError, check_model_rules, extract_signature
from registry.validation.running import open_session, run_feed
from tests.factories import exports


def open_export(data: bytes, folder: Path) -> tuple[Any, list[str], Any]:
    """A session, the names of its outputs and the inputs' specs."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    session = open_session(path)
    specs = choose_specs(extract_signature(load_from_string(data))["inputs"], {})
    return session, [item.name for item in session.get_outputs()], specs


def axes_of(*shapes: list[int | str]) -> list[int | None]:
    inputs = [
        {"name": str(index), "dtype": "float32", "shape": [*shape]}
        for index, shape in enumerate(shapes)
    ]
    return [spec.batch_axis for spec in choose_specs(inputs, {})]


def test_the_one_free_dimension_of_a_state_without_names_is_the_batch() -> None:
    assert axes_of(["dim_0_0", "dim_0_1"], [2, "dim_1_1", 128], []) == [0, 1, None]
    assert axes_of(["dim_0_0", 8], [2, "dim_1_1", "dim_1_2"]) == [0, None]
    assert axes_of(["batch", 8], [2, "dim_1_1", 128]) == [0, None]
    assert axes_of(["dim_0_0", 8], [2, "length", 128]) == [0, None]


def test_a_value_for_each_row_of_an_input_without_rows_is_fed_as_an_array(tmp_path: Path) -> None:
    session, names, specs = open_export(exports.voice_activity(), tmp_path)
    rows = fit_dataset(
        specs,
        {
            "input": np.ones((3, 9), np.float32),
            "state": np.zeros((3, 2, 4), np.float32),
            "sr": np.array([8000, 16000, 16000]),
        },
    )
    feeds = [feed for feed, _ in rows.batches(64)]
    assert [feed["sr"].tolist() for feed in feeds] == [8000, 16000, 16000]
    assert run_feed(session, names, feeds[0])[0].shape == (1, 1)


def fixed_state() -> bytes:
    """Joins each row with a state that is one row long."""
    return exports.model_of(
        [helper.make_node("Concat", ["x", "state"], ["y"], axis=1)],
        [
            exports.value("x", exports.FLOAT, ["batch", 4]),
            exports.value("state", exports.FLOAT, [1, 2]),
        ],
        [exports.value("y", exports.FLOAT, ["batch", 6])],
    )


def test_rows_go_one_by_one_where_a_state_of_fixed_size_allows_no_more(tmp_path: Path) -> None:
    session, names, specs = open_export(fixed_state(), tmp_path)
    rows = fit_dataset(specs, {"x": np.ones((3, 4), np.float32)})
    with pytest.raises(RuleError):
        run_feed(session, names, rows.feed(0, 2))
    alone = fit_batches(session, names, rows)
    assert [count for _, count in alone.batches(64)] == [1, 1, 1]
    free, names, specs = open_export(exports.linear(out="logits"), tmp_path)
    rows = fit_dataset(specs, {"x": np.ones((3, 4), np.float32)})
    assert fit_batches(free, names, rows) is rows


def test_classical_models_need_no_operators_of_the_default_domain() -> None:
    scaler = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", scale=[2.0])
    batch = [exports.value(name, exports.FLOAT, ["batch", 4]) for name in ("x", "y")]
    model = load_from_string(exports.model_of([scaler], batch[:1], batch[1:]))
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    check_model_rules(model, {})
    assert extract_signature(model)["opset"] == 1
    model.graph.node.append(helper.make_node("Identity", ["x"], ["z"]))
    with pytest.raises(RuleError, match="got 0"):
        check_model_rules(model, {})
