"""Each operator alone, in the forms that differ between operator sets, against ONNX Runtime."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.engine.training.executor import GraphExecutor
from compression.engine.training.operators import OPERATORS
from compression.exceptions import ModelUnsupportedError
from compression.measure.sessions import open_session

IMAGE = (2, 4, 7, 9)
SIGNAL = (2, 4, 11)
MATRIX = (3, 6)


def floats(*shape):
    return np.random.default_rng(sum(shape)).normal(0, 0.5, shape).astype(np.float32)


def integers(*values):
    return np.array(values, np.int64)


def scalar(value):
    return np.array(value, np.float32)


# name: operator, operator set, shape of x, further inputs, attributes
Case = tuple[str, int, tuple[int, ...], list[Any], dict[str, Any]]
CASES: dict[str, Case] = {
    "conv": ("Conv", 17, IMAGE, [floats(6, 4, 3, 3), floats(6)], {"pads": [1, 1, 1, 1]}),
    "conv, uneven pads": ("Conv", 17, IMAGE, [floats(6, 4, 3, 2)], {"pads": [0, 1, 2, 0]}),
    "conv, strides and dilations": (
        "Conv", 17, IMAGE, [floats(6, 4, 3, 3)], {"strides": [2, 1], "dilations": [1, 2]},
    ),
    "conv, groups": ("Conv", 17, IMAGE, [floats(8, 2, 3, 3), floats(8)], {"group": 2}),
    "conv, same upper": (
        "Conv", 17, IMAGE, [floats(6, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ),
    "conv, same lower": (
        "Conv", 17, IMAGE, [floats(6, 4, 2, 2)], {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    ),
    "conv, one axis": ("Conv", 17, SIGNAL, [floats(6, 4, 3), floats(6)], {"pads": [2, 0]}),
    "conv, three axes": ("Conv", 17, (1, 2, 4, 4, 4), [floats(3, 2, 2, 2, 2)], {}),
    "conv transpose": (
        "ConvTranspose", 17, IMAGE, [floats(4, 3, 3, 3), floats(6)],
        {"group": 2, "strides": [2, 2], "pads": [1, 0, 0, 1], "output_padding": [1, 1]},
    ),
    "conv transpose, one axis": ("ConvTranspose", 17, SIGNAL, [floats(4, 3, 2)], {"strides": [2]}),
    "gemm": ("Gemm", 17, MATRIX, [floats(6, 5), floats(5)], {"alpha": 0.5, "beta": 2.0}),
    "gemm, turned": ("Gemm", 17, MATRIX, [floats(5, 3)], {"transA": 1, "transB": 1}),
    "matrix product": ("MatMul", 17, (2, 3, 6), [floats(6, 5)], {}),
    "batch norm": (
        "BatchNormalization", 17, IMAGE,
        [floats(4), floats(4), floats(4), np.abs(floats(4)) + 1], {"epsilon": 1e-3},
    ),
    "layer norm": (
        "LayerNormalization", 17, (2, 3, 6), [floats(6), floats(6)], {"epsilon": 1e-3},
    ),
    "layer norm, two axes": (
        "LayerNormalization", 17, (2, 3, 6), [floats(3, 6)], {"axis": 1},
    ),
    "instance norm": ("InstanceNormalization", 17, IMAGE, [floats(4), floats(4)], {}),
    "relu": ("Relu", 17, MATRIX, [], {}),
    "leaky relu": ("LeakyRelu", 17, MATRIX, [], {"alpha": 0.2}),
    "prelu": ("PRelu", 17, IMAGE, [floats(4, 1, 1)], {}),
    "elu": ("Elu", 17, MATRIX, [], {"alpha": 0.7}),
    "clip": ("Clip", 17, MATRIX, [scalar(-0.3), scalar(0.4)], {}),
    "clip, above alone": ("Clip", 17, MATRIX, [None, scalar(0.1)], {}),
    "clip, attributes": ("Clip", 9, MATRIX, [], {"min": -0.3, "max": 0.4}),
    "sigmoid": ("Sigmoid", 17, MATRIX, [], {}),
    "tanh": ("Tanh", 17, MATRIX, [], {}),
    "hard swish": ("HardSwish", 17, MATRIX, [], {}),
    "hard sigmoid": ("HardSigmoid", 17, MATRIX, [], {"alpha": 0.3}),
    "softplus": ("Softplus", 17, MATRIX, [], {}),
    "mish": ("Mish", 18, MATRIX, [], {}),
    "error function": ("Erf", 17, MATRIX, [], {}),
    "gelu": ("Gelu", 20, MATRIX, [], {}),
    "gelu, tanh": ("Gelu", 20, MATRIX, [], {"approximate": "tanh"}),
    "softmax": ("Softmax", 17, (2, 3, 6), [], {"axis": 1}),
    "softmax, old": ("Softmax", 11, (2, 3, 6), [], {"axis": 1}),
    "log softmax": ("LogSoftmax", 17, (2, 3, 6), [], {}),
    "add": ("Add", 17, IMAGE, [floats(4, 1, 1)], {}),
    "subtract": ("Sub", 17, IMAGE, [floats(4, 1, 1)], {}),
    "multiply": ("Mul", 17, IMAGE, [floats(4, 1, 1)], {}),
    "divide": ("Div", 17, MATRIX, [np.abs(floats(6)) + 1], {}),
    "sum": ("Sum", 17, MATRIX, [floats(6), floats(3, 1)], {}),
    "mean": ("Mean", 17, MATRIX, [floats(6), floats(3, 1)], {}),
    "maximum": ("Max", 17, MATRIX, [floats(6)], {}),
    "minimum": ("Min", 17, MATRIX, [floats(6)], {}),
    "power": ("Pow", 17, MATRIX, [scalar(2.0)], {}),
    "absolute": ("Abs", 17, MATRIX, [], {}),
    "negative": ("Neg", 17, MATRIX, [], {}),
    "exponential": ("Exp", 17, MATRIX, [], {}),
    "sine": ("Sin", 17, MATRIX, [], {}),
    "cosine": ("Cos", 17, MATRIX, [], {}),
    "reciprocal": ("Reciprocal", 17, MATRIX, [], {}),
    "concat": ("Concat", 17, IMAGE, [floats(2, 3, 7, 9)], {"axis": 1}),
    "slice": ("Slice", 17, IMAGE, [integers(1, -4), integers(9, -1), integers(2, 3)], {}),
    "slice, steps": (
        "Slice", 17, IMAGE,
        [integers(0, -1), integers(7, -(2**63)), integers(2, 3), integers(2, -2)], {},
    ),
    "slice, attributes": ("Slice", 9, IMAGE, [], {"starts": [1], "ends": [3], "axes": [1]}),
    "gather": ("Gather", 17, IMAGE, [integers(2, 0, -1)], {"axis": 1}),
    "gather one": ("Gather", 17, IMAGE, [np.array(1, np.int64)], {"axis": 1}),
    "pad": ("Pad", 17, IMAGE, [integers(0, 0, 1, 0, 0, 0, 2, 1), scalar(0.5)], {}),
    "pad, reflect": (
        "Pad", 17, IMAGE, [integers(0, 0, 1, 2, 0, 0, 0, 1)], {"mode": "reflect"},
    ),
    "pad, attributes": ("Pad", 10, IMAGE, [], {"pads": [0, 0, 1, 0, 0, 0, 0, 1], "value": 2.0}),
    "max pool": (
        "MaxPool", 17, IMAGE, [],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 1]},
    ),
    "max pool, rounding up": (
        "MaxPool", 17, IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    ),
    "max pool, one axis": ("MaxPool", 17, SIGNAL, [], {"kernel_shape": [3]}),
    "average pool": ("AveragePool", 17, IMAGE, [], {"kernel_shape": [2, 3], "strides": [2, 1]}),
    "average pool, pads left out": (
        "AveragePool", 17, IMAGE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    ),
    "average pool, pads counted": (
        "AveragePool", 17, IMAGE, [],
        {"kernel_shape": [3, 3], "pads": [1, 0, 1, 0], "count_include_pad": 1},
    ),
    "global average": ("GlobalAveragePool", 17, IMAGE, [], {}),
    "global maximum": ("GlobalMaxPool", 17, IMAGE, [], {}),
    "reduce mean": ("ReduceMean", 17, IMAGE, [], {"axes": [2, 3], "keepdims": 0}),
    "reduce mean, input": ("ReduceMean", 18, IMAGE, [integers(-1)], {}),
    "reduce mean, all": ("ReduceMean", 17, IMAGE, [], {}),
    "reduce sum": ("ReduceSum", 17, IMAGE, [integers(1, 2)], {"keepdims": 0}),
    "reduce maximum": ("ReduceMax", 17, IMAGE, [], {"axes": [1]}),
    "flatten": ("Flatten", 17, IMAGE, [], {"axis": 2}),
    "flatten, from the first": ("Flatten", 17, IMAGE, [], {"axis": 0}),
    "reshape": ("Reshape", 17, IMAGE, [integers(0, -1, 3)], {}),
    "transpose": ("Transpose", 17, IMAGE, [], {"perm": [0, 2, 3, 1]}),
    "transpose, reversed": ("Transpose", 17, IMAGE, [], {}),
    "squeeze": ("Squeeze", 17, (2, 1, 3, 1), [integers(1, -1)], {}),
    "squeeze, attributes": ("Squeeze", 11, (2, 1, 3, 1), [], {"axes": [1]}),
    "unsqueeze": ("Unsqueeze", 17, MATRIX, [integers(0, -1)], {}),
    "unsqueeze, attributes": ("Unsqueeze", 11, MATRIX, [], {"axes": [1, 3]}),
    "expand": ("Expand", 17, (3, 1), [integers(2, 1, 4)], {}),
    "depth to space": ("DepthToSpace", 17, IMAGE, [], {"blocksize": 2}),
    "depth to space, other order": (
        "DepthToSpace", 17, IMAGE, [], {"blocksize": 2, "mode": "CRD"},
    ),
    "identity": ("Identity", 17, MATRIX, [], {}),
    "dropout": ("Dropout", 17, MATRIX, [scalar(0.5)], {}),
    "cast": ("Cast", 17, MATRIX, [], {"to": TensorProto.FLOAT}),
}  # fmt: skip


def make_model(case: Case) -> onnx.ModelProto:
    """x, a learned bias that is not preprocessing, then the operator."""
    operator, opset, shape, further, attributes = case
    weights = {"bias": floats(shape[-1] if shape[-1] > 1 else 2)}
    if shape[-1] == 1:
        weights["bias"] = floats(*[n if n > 1 else 1 for n in shape])
    names = []
    for index, value in enumerate(further):
        names.append("" if value is None else f"k{index}")
        if value is not None:
            weights[f"k{index}"] = value
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Add", ["same", "bias"], ["shifted"]),
        helper.make_node(operator, ["shifted", *names], ["y"], **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_what_onnx_runtime_gives(name):
    model = make_model(CASES[name])
    x = floats(*CASES[name][2])
    (expected,) = open_session(model.SerializeToString()).run(None, {"x": x})
    (found,) = GraphExecutor(model).run({"x": x})
    assert found.shape == expected.shape
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


SPLITS = {
    "sizes": (17, [integers(3, 1)], {}),
    "equal": (17, [], {}),
    "counted, last one smaller": (18, [], {"num_outputs": 2}),
    "attributes": (11, [], {"split": [1, 3]}),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_gives_the_same_parts(name):
    opset, further, attributes = SPLITS[name]
    model = make_model(("Split", opset, IMAGE, further, {"axis": 1, **attributes}))
    model.graph.node[-1].output.append("z")
    model.graph.output.append(helper.make_empty_tensor_value_info("z"))
    x = floats(*IMAGE)
    expected = open_session(model.SerializeToString()).run(None, {"x": x})
    found = GraphExecutor(model).run({"x": x})
    assert [part.shape for part in found] == [part.shape for part in expected]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_shapes_computed_in_the_graph_follow_the_batch():
    model = make_model(("Relu", 17, IMAGE, [], {}))
    nodes = [
        helper.make_node("Shape", ["y"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"]),
        helper.make_node("Unsqueeze", ["rows", "axis"], ["rows1"]),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Concat", ["rows1", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["y", "wanted"], ["flat"]),
    ]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(0, np.int64), "zero"),
            numpy_helper.from_array(integers(0), "axis"),
        ]
    )
    model.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("flat"))
    executor = GraphExecutor(model)
    for rows in (1, 5):
        (flat,) = executor.run({"x": np.zeros((rows, *IMAGE[1:]), np.float32)})
        assert flat.shape == (rows, 4 * 7 * 9)


REFUSED = {
    "pool indices": (("MaxPool", 17, IMAGE, [], {"kernel_shape": [2, 2]}), "index output"),
    "output shape": (
        ("ConvTranspose", 17, IMAGE, [floats(4, 3, 2, 2)], {"output_shape": [8, 10]}),
        "output_shape",
    ),
    "unknown type": (("Cast", 17, MATRIX, [], {"to": TensorProto.FLOAT16}), "data type 10"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_without_a_rule_is_refused_before_anything_runs(name):
    case, reason = REFUSED[name]
    model = make_model(case)
    if name == "pool indices":
        model.graph.node[-1].output.append("indices")
    with pytest.raises(ModelUnsupportedError, match=reason):
        GraphExecutor(model)


def test_every_operator_with_a_rule_is_compared_here():
    shown = {case[0] for case in CASES.values()} | {"Split", "Shape"}
    # Of integers and conditions: they serve computed shapes and masks.
    assert set(OPERATORS) - shown == {
        "ConstantOfShape", "Equal", "Greater", "Less", "Log", "ReduceMin", "Sqrt", "Where",
    }  # fmt: skip
