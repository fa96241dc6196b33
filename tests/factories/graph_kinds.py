"""Small graphs of kinds that quantizers stumble over, each with samples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
node = helper.make_node
Samples = dict[str, NDArray[Any]]
Kind = tuple[onnx.ModelProto, Callable[[np.random.Generator, int], Samples]]


def weights(*shape: int, scale: float = 0.3) -> NDArray[np.float32]:
    """Normal numbers, the same for the same shape."""
    return np.random.default_rng(shape).normal(0, scale, shape).astype(np.float32)


def value(name: str, shape: Any, kind: int = FLOAT) -> onnx.ValueInfoProto:
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, values: NDArray[Any]) -> onnx.NodeProto:
    """A Constant node."""
    return node("Constant", [], [name], f"hold_{name}", value=numpy_helper.from_array(values))


def body(name: str, nodes: list[Any], inputs: list[Any], outputs: list[str], **held: Any) -> Any:
    """A branch or the body of a loop."""
    tensors = [numpy_helper.from_array(item, key) for key, item in held.items()]
    known = [item if not isinstance(item, str) else value(item, None) for item in outputs]
    return helper.make_graph(nodes, name, inputs, known, tensors)


def images(generator: np.random.Generator, rows: int) -> Samples:
    """[rows, 3, 8, 8]."""
    return {"x": generator.normal(size=(rows, 3, 8, 8)).astype(np.float32)}


def vectors(generator: np.random.Generator, rows: int) -> Samples:
    """[rows, 32]."""
    return {"x": generator.normal(size=(rows, 32)).astype(np.float32)}


def model(
    nodes: list[Any],
    tensors: dict[str, Any],
    *,
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A model of opset 17."""
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs or [value("x", ["N", 3, 8, 8])],
        outputs or [value("y", ["N", 4])],
        [numpy_helper.from_array(np.asarray(item), key) for key, item in tensors.items()],
    )
    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


STEM = [
    node("Conv", ["x", "w", "b"], ["c"], "stem", pads=[1] * 4),
    node("Relu", ["c"], ["r"], "relu"),
]
STEM_WEIGHTS = {"w": weights(32, 3, 3, 3), "b": weights(32)}
HEAD_WEIGHTS = {"h": weights(32, 4), "hb": weights(4)}
WEIGHTS = {**STEM_WEIGHTS, **HEAD_WEIGHTS}


def head(source: str) -> list[Any]:
    """Pooling and a linear layer of four scores."""
    return [
        node("GlobalAveragePool", [source], ["gp"], "pool"),
        node("Flatten", ["gp"], ["fl"], "flat"),
        node("Gemm", ["fl", "h", "hb"], ["y"], "head"),
    ]


def _condition() -> list[Any]:
    return [
        node("ReduceMax", ["x"], ["mx"], "largest", keepdims=0),
        node("Greater", ["mx", "zero"], ["cond"], "greater"),
    ]


def _branch(*, is_inner: bool) -> onnx.ModelProto:
    conv = node("Conv", ["r", "iw" if is_inner else "w2"], ["t"], "then_conv", pads=[1] * 4)
    inner = {"iw": weights(32, 32, 3, 3, scale=0.1)}
    outer = {} if is_inner else {"w2": weights(32, 32, 3, 3, scale=0.1)}
    branches = {
        "then_branch": body("then", [conv], [], ["t"], **(inner if is_inner else {})),
        "else_branch": body("else", [node("Relu", ["r"], ["e"], "else_relu")], [], ["e"]),
    }
    nodes = [*STEM, *_condition(), node("If", ["cond"], ["q"], "if", **branches), *head("q")]
    return model(nodes, {**WEIGHTS, **outer, "zero": np.float32(0)})


def _loop() -> onnx.ModelProto:
    nodes = [
        node("Identity", ["ci"], ["co"], "keep"),
        constant("kw", weights(32, 32, 3, 3, scale=0.1)),
        node("Conv", ["s", "kw"], ["bc"], "loop_conv", pads=[1] * 4),
        node("Relu", ["bc"], ["so"], "loop_relu"),
    ]
    inputs = [
        value("i", [], TensorProto.INT64),
        value("ci", [], TensorProto.BOOL),
        value("s", None),
    ]
    inner = body("body", nodes, inputs, [value("co", [], TensorProto.BOOL), "so"])
    loop = node("Loop", ["trip", "", "r"], ["q"], "loop", body=inner)
    return model([*STEM, loop, *head("q")], {**WEIGHTS, "trip": np.int64(2)})


def _detection(*tail: Any, width: int = 9, **tensors: Any) -> onnx.ModelProto:
    return model(
        [*STEM, *tail],
        {**STEM_WEIGHTS, **tensors},
        outputs=[value("y", ["N", width, 8, 8])],
    )


def _boxes_beside_scores() -> onnx.ModelProto:
    return _detection(
        node("Conv", ["r", "wb"], ["boxes"], "boxes"),
        node("Mul", ["boxes", "side"], ["pixels"], "pixels"),
        node("Conv", ["r", "ws"], ["logits"], "logits"),
        node("Sigmoid", ["logits"], ["scores"], "scores"),
        node("Concat", ["pixels", "scores"], ["y"], "join", axis=1),
        wb=weights(4, 32, 1, 1),
        ws=weights(5, 32, 1, 1),
        side=np.float32(300),
    )


def _factors_per_column() -> onnx.ModelProto:
    factors = np.ones((1, 9, 1, 1), np.float32)
    factors[:, :4] = 300
    return _detection(
        node("Conv", ["r", "wa"], ["all"], "all"),
        node("Sigmoid", ["all"], ["s"], "sigmoid"),
        node("Mul", ["s", "factors"], ["y"], "factors"),
        wa=weights(9, 32, 1, 1),
        factors=factors,
    )


def _held_in_constants() -> onnx.ModelProto:
    return model([*(constant(key, item) for key, item in WEIGHTS.items()), *STEM, *head("r")], {})


def _vector(*middle: Any, **tensors: Any) -> onnx.ModelProto:
    return model(
        [node("Gemm", ["x", "w"], ["a"], "first"), *middle, node("Gemm", ["r", "h", "hb"], ["y"])],
        {"w": weights(32, 32), **HEAD_WEIGHTS, **tensors},
        inputs=[value("x", ["N", 32])],
    )


KINDS: dict[str, Kind] = {
    "a branch that reads outer weights": (_branch(is_inner=False), images),
    "a branch with weights": (_branch(is_inner=True), images),
    "a loop with weights in a Constant": (_loop(), images),
    "boxes beside scores": (_boxes_beside_scores(), images),
    "a factor per column": (_factors_per_column(), images),
    "weights in Constant nodes": (_held_in_constants(), images),
    "no types inferred": (
        model(
            [
                STEM[0],
                node("Gelu", ["c"], ["r"], "gelu", domain="com.microsoft"),
                node("Conv", ["r", "w2"], ["d"], "second", pads=[1] * 4),
                *head("d"),
            ],
            {**WEIGHTS, "w2": weights(32, 32, 3, 3, scale=0.1)},
            domains=("com.microsoft",),
        ),
        images,
    ),
    "a matrix by a vector": (
        _vector(
            node("MatMul", ["a", "v"], ["m"], "vector"),
            node("Unsqueeze", ["m", "axis"], ["u"], "column"),
            node("Mul", ["u", "a"], ["r"], "spread"),
            v=weights(32),
            axis=np.array([1]),
        ),
        vectors,
    ),
    "a weight of three axes": (
        _vector(
            node("Unsqueeze", ["a", "axis"], ["u"], "row"),
            node("MatMul", ["u", "w3"], ["m"], "batched"),
            node("Squeeze", ["m", "axis"], ["r"], "flat"),
            w3=weights(1, 32, 32),
            axis=np.array([1]),
        ),
        vectors,
    ),
    "a Relu whose input is read twice": (
        _vector(
            node("Relu", ["a"], ["q"], "relu"),
            node("Neg", ["a"], ["n"], "negative"),
            node("Add", ["q", "n"], ["r"], "sum"),
        ),
        vectors,
    ),
    "a node that nothing reads": (
        _vector(node("Relu", ["a"], ["r"], "relu"), node("Neg", ["a"], ["unread"], "dead")),
        vectors,
    ),
    "a Where on a mask": (
        model(
            [
                node("Gemm", ["x", "w"], ["a"], "first"),
                node("Where", ["m", "a", "zero"], ["r"], "where"),
                node("Gemm", ["r", "h", "hb"], ["y"], "head"),
            ],
            {"w": weights(32, 32), **HEAD_WEIGHTS, "zero": np.float32(0)},
            inputs=[value("x", ["N", 32]), value("m", ["N", 32], TensorProto.BOOL)],
        ),
        lambda g, rows: {**vectors(g, rows), "m": g.normal(size=(rows, 32)) > 0},
    ),
    "few weights": (
        model(
            [
                node("Conv", ["x", "w", "b"], ["c"], "stem", pads=[1] * 4, group=3),
                node("Relu", ["c"], ["r"], "relu"),
                *head("r"),
            ],
            {"w": weights(3, 1, 3, 3), "b": weights(3), "h": weights(3, 4), "hb": weights(4)},
        ),
        images,
    ),
}
