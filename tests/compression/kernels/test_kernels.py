"""INT8 sums computed as the kernels of other processors compute them."""

import platform

import numpy as np
import onnx
import pytest

from compression.exceptions import ModelUnsupportedError
from compression.measure.kernels.computing import ComputingSession
from compression.measure.kernels.instruction_sets import require_sets
from compression.measure.kernels.products import (
    find_saturating,
    optimize_file,
    saturates_here,
    tensor_types,
)
from compression.measure.sessions import open_session
from tests.compression.kernels.saturated_models import MODELS, RECORDED, answer_here, draw

# Of one channel each: their kernels sum in 32 bits everywhere.
NEVER = {"each channel alone"}


def is_fused_here() -> bool:
    """True where the compiler joins a product and a sum (FMLA of ARMv8)."""
    return platform.machine() in ("aarch64", "arm64")


def compute(tmp_path, name, rows, *, is_saturating):
    path = tmp_path / "model.onnx"
    onnx.save(MODELS[name][0], str(path))
    session = ComputingSession(open_session(path), path, 1, is_saturating)
    return session.run(None, draw(name, rows))[0]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_saturated_sums_are_those_recorded_of_kernels_that_saturate(name, rows, tmp_path):
    with np.load(RECORDED) as recorded:
        expected = recorded[f"{name}/{rows}"]
    assert np.array_equal(compute(tmp_path, name, rows, is_saturating=True), expected)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_this_machines_kernels_answer_what_is_computed_for_them(name, rows, tmp_path):
    computed = compute(tmp_path, name, rows, is_saturating=saturates_here())
    answer = answer_here(name, rows)
    if not is_fused_here():
        assert np.array_equal(computed, answer)
        return
    # ARM scales the sums and adds the bias in one rounding; one sum that is off by one would differ
    # by more than that.
    assert np.allclose(computed, answer, rtol=0, atol=4e-7 * np.abs(answer).max())


@pytest.mark.parametrize("name", MODELS)
def test_a_product_that_can_saturate_is_found_and_does(name, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(MODELS[name][0], str(path))
    model = optimize_file(path)
    found = find_saturating(model, tensor_types(model))
    assert bool(found) == (name not in NEVER)
    narrow, wide = (compute(tmp_path, name, 3, is_saturating=way) for way in (True, False))
    assert np.array_equal(narrow, wide) == (name in NEVER)


def test_an_operator_that_is_not_computed_is_named(tmp_path):
    generator = np.random.default_rng(0)
    weights = {
        "W": generator.integers(-127, 128, (1, 8, 16)).astype(np.int8),
        "R": generator.integers(-127, 128, (1, 4, 16)).astype(np.int8),
        "scale": np.asarray([0.01], np.float32),
        "zero": np.asarray([0], np.int8),
    }
    node = onnx.helper.make_node(
        "DynamicQuantizeLSTM",
        ["x", "W", "R", "", "", "", "", "", "scale", "zero", "scale", "zero"],
        ["y"],
        "recurrent",
        domain="com.microsoft",
        hidden_size=4,
    )
    graph = onnx.helper.make_graph(
        [node],
        "graph",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3, "N", 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    with pytest.raises(ModelUnsupportedError, match="DynamicQuantizeLSTM"):
        ComputingSession(open_session(path), path, 1, True)


@pytest.mark.parametrize(
    ("target", "can_saturate", "is_signed", "expected"),
    [
        ("portable", False, False, []),
        ("x86-vnni", False, False, []),
        ("x86-vnni", True, False, ["vnni"]),
        ("portable", True, False, ["vnni", "neon"]),
        ("npu", True, True, ["vnni", "neon"]),
        ("arm64", False, True, ["neon"]),
        ("arm64", True, True, ["neon"]),
        ("portable", False, True, []),
    ],
)
def test_a_file_needs_the_sets_it_is_right_and_fast_on(target, can_saturate, is_signed, expected):
    found = require_sets(target, can_saturate=can_saturate, is_signed=is_signed)
    assert found == expected
