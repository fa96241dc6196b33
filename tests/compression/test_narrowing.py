"""Narrow constants: the same convolutions from fewer bytes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.engine.graph.narrowing import narrow_constants

CHANNELS, SIDE = 32, 6
GENERATOR = np.random.default_rng(3)
X = GENERATOR.integers(0, 255, (2, 4, SIDE, SIDE)).astype(np.uint8)
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def make_model(scale=0.01, bias=1000, readers=1, **changed):
    """`readers` QLinearConv of 4 to 32 channels that read the same constants."""
    weights = {
        "x_scale": np.float32(0.02),
        "x_zero": np.uint8(3),
        "w": GENERATOR.integers(-127, 128, (CHANNELS, 4, 3, 3)).astype(np.int8),
        "w_scale": (scale * GENERATOR.uniform(1, 2, CHANNELS)).astype(np.float32),
        "w_zero": np.zeros(CHANNELS, np.int8),
        "y_scale": np.float32(0.5),
        "y_zero": np.uint8(128),
        "bias": GENERATOR.integers(-bias, bias, CHANNELS).astype(np.int32),
        **changed,
    }
    names = ["x", *weights]
    nodes = [
        helper.make_node("QLinearConv", names, [f"y{index}"], f"conv{index}")
        for index in range(readers)
    ]
    shape = [None, CHANNELS, SIDE - 2, SIDE - 2]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [None, 4, SIDE, SIDE])],
        [
            helper.make_tensor_value_info(f"y{index}", TensorProto.UINT8, shape)
            for index in range(readers)
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def narrow(model):
    small = onnx.ModelProto.FromString(model.SerializeToString())
    narrow_constants(small.graph)
    onnx.checker.check_model(small, full_check=True)
    return small


def run(model, level="ORT_ENABLE_ALL", optimized_path=""):
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(optimized_path)
    session = ort.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"x": X})[0].astype(int)


def stored_types(model):
    return {TensorProto.DataType.Name(tensor.data_type) for tensor in model.graph.initializer}


def test_scales_and_biases_take_half_the_bytes_and_zero_points_one():
    small = narrow(make_model())
    assert stored_types(small) == {"FLOAT", "UINT8", "INT8", "FLOAT16", "INT16"}
    assert sum(node.op_type == "Cast" for node in small.graph.node) == 2
    assert len(next(t for t in small.graph.initializer if t.name == "w_zero").dims) == 0


@pytest.mark.parametrize("level", LEVELS)
def test_the_answers_are_within_one_step_of_the_wide_ones_at_every_level(level):
    model = make_model()
    difference = np.abs(run(narrow(model), level) - run(model, level))
    assert difference.max() <= 1
    assert difference.mean() < 0.02


def test_narrow_biases_and_a_single_zero_point_alone_change_no_answer():
    # These scales are below what FP16 holds to the full, so they stay as they are.
    model = make_model(scale=1e-6, y_scale=np.float32(1e-4))
    small = narrow(model)
    assert "FLOAT16" not in stored_types(small)
    assert "INT16" in stored_types(small)
    assert np.array_equal(run(small), run(model))


def test_the_optimized_graph_is_the_one_without_casts(tmp_path):
    model = make_model()
    operators = []
    for index, each in enumerate((model, narrow(model))):
        path = tmp_path / f"{index}.onnx"
        run(each, "ORT_ENABLE_EXTENDED", path)
        operators.append([node.op_type for node in onnx.load(str(path)).graph.node])
    assert operators[0] == operators[1]


def test_a_bias_follows_its_rounded_scale():
    model = make_model(bias=2**24)
    tensors = {t.name: numpy_helper.to_array(t) for t in narrow(model).graph.initializer}
    wide = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert tensors["bias"].dtype == np.int32
    before = wide["bias"] * wide["w_scale"].astype(np.float64)
    after = tensors["bias"] * tensors["w_scale_narrow"].astype(np.float64)
    assert np.abs(after - before).max() <= 0.5 * tensors["w_scale_narrow"].max()


KEPT = {
    "scales too small for FP16": (make_model(scale=1e-9, bias=2**24), "w_scale"),
    "biases beyond 16 bits": (make_model(bias=2**24), "bias"),
    "zero points that differ": (
        make_model(w_zero=np.arange(CHANNELS).astype(np.int8)),
        "w_zero",
    ),
    "what two operators read": (make_model(readers=2), "w_scale"),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_would_lose_by_it_stays_wide(case):
    model, name = KEPT[case]
    before, after = (
        next(t for t in each.graph.initializer if t.name == name) for each in (model, narrow(model))
    )
    assert (after.data_type, after.dims) == (before.data_type, before.dims)


def test_a_graph_for_compilers_is_left_as_it_is():
    """Pairs of QuantizeLinear and DequantizeLinear are matched with their constants."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale"], ["wide"], axis=0),
    ]
    constants = {
        "s": np.float32(0.1),
        "z": np.uint8(0),
        "w": np.ones((CHANNELS, 4), np.int8),
        "w_scale": np.full(CHANNELS, 0.01, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4]),
            helper.make_tensor_value_info("wide", TensorProto.FLOAT, [CHANNELS, 4]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    before = graph.SerializeToString(deterministic=True)
    narrow_constants(graph)
    assert graph.SerializeToString(deterministic=True) == before
