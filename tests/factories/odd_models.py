"""Models that are legal or nearly so, but not the plain image classifier; each with its samples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
ROWS = 96


@dataclass(frozen=True)
class Odd:
    """A model and a function that draws `rows` samples for it from a generator."""

    model: onnx.ModelProto
    draw: Callable[[np.random.Generator, int], dict[str, NDArray[Any]]]


def _random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).normal(0, 0.3, shape).astype(np.float32)


def _model(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    weights: dict[str, NDArray[Any]],
    *,
    opset: int = 17,
    ir_version: int = 8,
    domains: tuple[str, ...] = (),
    functions: tuple[Any, ...] = (),
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    model = helper.make_model(graph, opset_imports=imports, functions=list(functions))
    model.ir_version = ir_version
    return model


def _value(name: str, shape: Any, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _images(generator: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    return {"x": generator.normal(size=(rows, 3, 8, 8)).astype(np.float32)}


_CNN_WEIGHTS = {"w": _random(64, 3, 3, 3), "b": _random(64), "h": _random(64, 4), "hb": _random(4)}


def _cnn_nodes(source: str = "x", out: str = "y", prefix: str = "") -> list[Any]:
    p = prefix
    return [
        helper.make_node("Conv", [source, "w", "b"], [f"{p}c"], f"{p}conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [f"{p}c"], [f"{p}r"], f"{p}relu"),
        helper.make_node("GlobalAveragePool", [f"{p}r"], [f"{p}g"], f"{p}pool"),
        helper.make_node("Flatten", [f"{p}g"], [f"{p}f"], f"{p}flatten"),
        helper.make_node("Gemm", [f"{p}f", "h", "hb"], [out], f"{p}head"),
    ]


def _cnn(shape: Any = ("N", 3, 8, 8), output: Any = ("N", 4), **options: Any) -> onnx.ModelProto:
    return _model(
        _cnn_nodes(), [_value("x", shape)], [_value("y", output)], dict(_CNN_WEIGHTS), **options
    )


def dynamic_height_and_width() -> Odd:
    return Odd(_cnn(("N", 3, "H", "W")), _images)


def fixed_batch() -> Odd:
    return Odd(_cnn((4, 3, 8, 8), (4, 4)), _images)


def opset_9() -> Odd:
    return Odd(_cnn(opset=9, ir_version=4), _images)


def opset_11() -> Odd:
    return Odd(_cnn(opset=11, ir_version=6), _images)


def opset_13() -> Odd:
    return Odd(_cnn(opset=13, ir_version=7), _images)


def opset_21() -> Odd:
    return Odd(_cnn(opset=21, ir_version=10), _images)


def opset_23() -> Odd:
    return Odd(_cnn(opset=23, ir_version=11), _images)


def weights_among_the_inputs() -> Odd:
    """As exporters wrote before IR version 4: every initializer is a graph input, too."""
    model = _cnn(opset=9, ir_version=3)
    for name, value in _CNN_WEIGHTS.items():
        model.graph.input.append(_value(name, value.shape))
    return Odd(model, _images)


def weights_in_constant_nodes() -> Odd:
    model = _cnn()
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    ]
    nodes = [*constants, *model.graph.node]
    del model.graph.initializer[:]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return Odd(model, _images)


def two_inputs() -> Odd:
    nodes = [
        *_cnn_nodes(out="a"),
        helper.make_node("MatMul", ["meta", "m"], ["p"], "meta_product"),
        helper.make_node("Add", ["a", "p"], ["y"], "sum"),
    ]
    model = _model(
        nodes,
        [_value("x", ["N", 3, 8, 8]), _value("meta", ["N", 32])],
        [_value("y", ["N", 4])],
        {**_CNN_WEIGHTS, "m": _random(32, 4)},
    )

    def draw(generator: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        meta = generator.normal(size=(rows, 32)).astype(np.float32)
        return {**_images(generator, rows), "meta": meta}

    return Odd(model, draw)


def integer_tokens() -> Odd:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "embed"),
        helper.make_node("MatMul", ["e", "m"], ["p"], "mix"),
        helper.make_node("Relu", ["p"], ["r"], "relu"),
        helper.make_node("ReduceMean", ["r"], ["q"], "mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["q", "h"], ["y"], "head"),
    ]
    model = _model(
        nodes,
        [_value("ids", ["N", 12], TensorProto.INT64)],
        [_value("y", ["N", 4])],
        {"table": _random(200, 16), "m": _random(16, 32), "h": _random(32, 4)},
    )
    return Odd(model, lambda g, rows: {"ids": g.integers(0, 200, (rows, 12))})


def products_only() -> Odd:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "b"], ["y"], "second"),
    ]
    weights = {"a": _random(16, 32), "b": _random(32, 4)}
    model = _model(nodes, [_value("x", ["N", 16])], [_value("y", ["N", 4])], weights)
    return Odd(model, lambda g, rows: {"x": g.normal(size=(rows, 16)).astype(np.float32)})


def recurrent() -> Odd:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "time_first", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r"], ["", "last"], "lstm", hidden_size=16),
        helper.make_node("Squeeze", ["last", "axis"], ["s"], "squeeze"),
        helper.make_node("MatMul", ["s", "h"], ["y"], "head"),
    ]
    weights = {
        "w": _random(1, 64, 8),
        "r": _random(1, 64, 16),
        "axis": np.array([0], np.int64),
        "h": _random(16, 4),
    }
    model = _model(nodes, [_value("x", ["N", 6, 8])], [_value("y", ["N", 4])], weights)
    return Odd(model, lambda g, rows: {"x": g.normal(size=(rows, 6, 8)).astype(np.float32)})


def regression() -> Odd:
    model = _cnn(output=("N", 1))
    for name in ("h", "hb"):
        tensor = next(item for item in model.graph.initializer if item.name == name)
        value = numpy_helper.to_array(tensor)[..., :1]
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return Odd(model, _images)


def detection() -> Odd:
    """Two outputs, neither of them a score matrix: boxes [N, 64, 4] and classes [N, 64, 3]."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
    ]
    weights: dict[str, NDArray[Any]] = {"w": _random(16, 3, 3, 3), "b": _random(16)}
    for name, width in (("boxes", 4), ("classes", 3)):
        weights |= {f"{name}_w": _random(width, 16, 1, 1)}
        weights |= {f"{name}_s": np.array([0, width, 64], np.int64)}
        nodes += [
            helper.make_node("Conv", ["r", f"{name}_w"], [f"{name}_c"], f"{name}_conv"),
            helper.make_node("Reshape", [f"{name}_c", f"{name}_s"], [f"{name}_r"], f"{name}_flat"),
            helper.make_node("Transpose", [f"{name}_r"], [name], f"{name}_t", perm=[0, 2, 1]),
        ]
    outputs = [_value("boxes", ["N", 64, 4]), _value("classes", ["N", 64, 3])]
    return Odd(_model(nodes, [_value("x", ["N", 3, 8, 8])], outputs, weights), _images)


def local_function() -> Odd:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Activate", ["c"], ["r"], "activate", domain="own"),
        *_cnn_nodes()[2:],
    ]
    function = helper.make_function(
        "own",
        "Activate",
        ["i"],
        ["o"],
        [helper.make_node("Relu", ["i"], ["o"])],
        [helper.make_opsetid("", 17)],
    )
    model = _model(
        nodes,
        [_value("x", ["N", 3, 8, 8])],
        [_value("y", ["N", 4])],
        dict(_CNN_WEIGHTS),
        domains=("own",),
        functions=(function,),
    )
    return Odd(model, _images)


def contributed_operator() -> Odd:
    nodes = [
        helper.make_node("FusedMatMul", ["x", "a"], ["h"], "fused", domain="com.microsoft"),
        helper.make_node("Gelu", ["h"], ["r"], "gelu", domain="com.microsoft"),
        helper.make_node("MatMul", ["r", "b"], ["y"], "second"),
    ]
    weights = {"a": _random(16, 32), "b": _random(32, 4)}
    model = _model(
        nodes,
        [_value("x", ["N", 16])],
        [_value("y", ["N", 4])],
        weights,
        domains=("com.microsoft",),
    )
    return Odd(model, lambda g, rows: {"x": g.normal(size=(rows, 16)).astype(np.float32)})


def branch_with_weights() -> Odd:
    """An If whose branches hold the only products, and read a tensor of the outer graph."""
    branches = {}
    for name in ("then", "else"):
        weight = numpy_helper.from_array(_random(16, 4, seed=len(name)), f"{name}_w")
        node = helper.make_node("MatMul", ["r", f"{name}_w"], [f"{name}_y"])
        output = _value(f"{name}_y", ["N", 4])
        branches[f"{name}_branch"] = helper.make_graph([node], name, [], [output], [weight])
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("ReduceMean", ["x"], ["m"], "mean", keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["cond"], "greater"),
        helper.make_node("If", ["cond"], ["y"], "if", **branches),
    ]
    weights = {"zero": np.array(0, np.float32)}
    model = _model(nodes, [_value("x", ["N", 16])], [_value("y", ["N", 4])], weights)
    return Odd(model, lambda g, rows: {"x": g.normal(size=(rows, 16)).astype(np.float32)})


def loop_behind_convolutions() -> Odd:
    """Convolutions outside, and a Loop that adds a captured tensor three times."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", "f"], ["v2"]),
            helper.make_node("Identity", ["go"], ["go2"]),
        ],
        "body",
        [_value("i", [], TensorProto.INT64), _value("go", [], TensorProto.BOOL), _value("v", None)],
        [_value("go2", [], TensorProto.BOOL), _value("v2", None)],
    )
    nodes = [
        *_cnn_nodes()[:4],
        helper.make_node("Loop", ["three", "", "f"], ["l"], "loop", body=body),
        helper.make_node("Gemm", ["l", "h", "hb"], ["y"], "head"),
    ]
    weights = {**_CNN_WEIGHTS, "three": np.array(3, np.int64)}
    model = _model(nodes, [_value("x", ["N", 3, 8, 8])], [_value("y", ["N", 4])], weights)
    return Odd(model, _images)


def half_precision() -> Odd:
    model = _cnn()
    for item in [*model.graph.input, *model.graph.output]:
        item.type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return Odd(model, lambda g, rows: {"x": _images(g, rows)["x"].astype(np.float16)})


def quantize_linear_pairs() -> Odd:
    model = _cnn()
    weights = {"s": np.array(0.05, np.float32), "z": np.array(128, np.uint8)}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in weights.items())
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        *_cnn_nodes("d"),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return Odd(model, _images)


def integer_operators() -> Odd:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["f", "s"], ["y"]),
    ]
    weight = np.random.default_rng(0).integers(-9, 9, (16, 4)).astype(np.int8)
    model = _model(nodes, [_value("x", ["N", 16])], [_value("y", ["N", 4])], {"w": weight})
    return Odd(model, lambda g, rows: {"x": g.normal(size=(rows, 16)).astype(np.float32)})


def no_weights() -> Odd:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["y"], "flatten"),
    ]
    return Odd(_model(nodes, [_value("x", ["N", 3, 8, 8])], [_value("y", ["N", 3])], {}), _images)


def text_input() -> Odd:
    node = helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=["a"], values_floats=[1.0]
    )
    model = _model([node], [_value("x", ["N", 1], TensorProto.STRING)], [_value("y", ["N", 1])], {})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    return Odd(model, lambda g, rows: {"x": np.full((rows, 1), "a")})


def sequence_output() -> Odd:
    model = _cnn()
    model.graph.node.append(helper.make_node("SequenceConstruct", ["y"], ["z"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_sequence_value_info("z", FLOAT, None))
    return Odd(model, _images)


def empty_input() -> Odd:
    model = _cnn(("N", 3, 0, 8))
    return Odd(model, lambda g, rows: {"x": np.zeros((rows, 3, 0, 8), np.float32)})


def input_without_rows() -> Odd:
    nodes = [*_cnn_nodes(out="a"), helper.make_node("Mul", ["a", "scale"], ["y"])]
    model = _model(
        nodes,
        [_value("x", ["N", 3, 8, 8]), _value("scale", [])],
        [_value("y", ["N", 4])],
        dict(_CNN_WEIGHTS),
    )
    return Odd(model, lambda g, rows: {**_images(g, rows), "scale": np.ones(rows, np.float32)})


def no_rows_at_all() -> Odd:
    return Odd(_cnn((), ()), _images)


def output_without_rows() -> Odd:
    nodes = [*_cnn_nodes(out="a"), helper.make_node("ReduceMean", ["a"], ["y"], axes=[0])]
    model = _model(nodes, [_value("x", ["N", 3, 8, 8])], [_value("y", [1, 4])], dict(_CNN_WEIGHTS))
    return Odd(model, _images)


def batch_sizes_that_differ() -> Odd:
    nodes = [
        *_cnn_nodes(out="a"),
        helper.make_node("MatMul", ["meta", "m"], ["p"]),
        helper.make_node("Add", ["a", "p"], ["y"]),
    ]
    model = _model(
        nodes,
        [_value("x", [4, 3, 8, 8]), _value("meta", [1, 5])],
        [_value("y", [4, 4])],
        {**_CNN_WEIGHTS, "m": _random(5, 4)},
    )
    return Odd(model, lambda g, r: {**_images(g, r), "meta": np.ones((r, 5), np.float32)})


def gigantic_dimension() -> Odd:
    return Odd(_cnn(("N", 3, 2**40, 8)), _images)


def negative_dimension() -> Odd:
    return Odd(_cnn(("N", 3, -5, 8)), _images)


def activation_beyond_memory() -> Odd:
    """Two kilobytes that ask for 32 GiB while running."""
    weights = {**_CNN_WEIGHTS, "n": np.array([2**33], np.int64)}
    nodes = [
        *_cnn_nodes(out="a"),
        helper.make_node("ReduceMax", ["x"], ["m"], "max", keepdims=0),
        helper.make_node("Expand", ["m", "n"], ["e"], "expand"),
        helper.make_node("ReduceMin", ["e"], ["s"], "min", keepdims=0),
        helper.make_node("Add", ["a", "s"], ["y"], "sum"),
    ]
    return Odd(
        _model(nodes, [_value("x", ["N", 3, 8, 8])], [_value("y", ["N", 4])], weights), _images
    )


def unknown_operator_domain() -> Odd:
    model = _cnn()
    model.graph.node[1].domain = "example.com"
    model.opset_import.append(helper.make_opsetid("example.com", 1))
    return Odd(model, _images)


COMPRESSIBLE: dict[str, Callable[[], Odd]] = {
    function.__name__: function
    for function in (
        dynamic_height_and_width, fixed_batch, opset_9, opset_11, opset_13, opset_21, opset_23,
        weights_among_the_inputs, weights_in_constant_nodes, two_inputs, integer_tokens,
        products_only, recurrent, regression, detection, local_function, contributed_operator,
        loop_behind_convolutions, input_without_rows,
    )
}  # fmt: skip
REFUSED: dict[str, Callable[[], Odd]] = {
    function.__name__: function
    for function in (
        branch_with_weights, half_precision, quantize_linear_pairs, integer_operators, no_weights,
        text_input,
        sequence_output, empty_input, no_rows_at_all, output_without_rows,
        batch_sizes_that_differ, gigantic_dimension, negative_dimension,
        activation_beyond_memory, unknown_operator_domain,
    )
}  # fmt: skip
