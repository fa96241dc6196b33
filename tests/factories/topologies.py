"""Graphs of many shapes, with random weights, for the pruning property."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class GraphMaker:
    """Builds a graph node by node; every method returns the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.weights: dict[str, Any] = {}
        self.nodes: list[Any] = []

    def constant(self, value: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = value
        return name

    def random(self, *shape: int) -> str:
        return self.constant(self.generator.normal(0, 0.4, shape).astype(np.float32))

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x: str, into: int, out: int, kernel: int = 3, group: int = 1) -> str:
        weight = self.random(out, into // group, kernel, kernel)
        pads = [kernel // 2] * 4
        return self.add("Conv", x, weight, self.random(out), pads=pads, group=group)

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def dense(self, x: str, into: int, out: int) -> str:
        return self.add("Gemm", x, self.random(out, into), self.random(out), transB=1)

    def head(self, x: str, channels: int) -> str:
        pooled = self.add("Flatten", self.add("GlobalAveragePool", x))
        return self.dense(pooled, channels, 3)

    def model(self, outputs: str | list[str]) -> onnx.ModelProto:
        names = [outputs] if isinstance(outputs, str) else outputs
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 8, 8])],
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N", None]) for n in names],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        domains = {"": 17} | {node.domain: 1 for node in self.nodes if node.domain}
        imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        model = helper.make_model(graph, opset_imports=imports)
        model.ir_version = 8
        return model


def plain(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 8))
    return g.head(g.relu(g.conv(x, 8, 12)), 12)


def residual(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 8))
    y = g.conv(g.relu(g.conv(x, 8, 10)), 10, 8)
    return g.head(g.relu(g.add("Add", x, y)), 8)


def batch_norm(g: GraphMaker) -> str:
    x = g.conv("x", 3, 8)
    variance = g.constant(np.abs(g.generator.normal(1, 0.1, 8)).astype(np.float32))
    x = g.add("BatchNormalization", x, g.random(8), g.random(8), g.random(8), variance)
    return g.head(g.relu(x), 8)


def depthwise(g: GraphMaker) -> str:
    x = g.add("Clip", g.conv("x", 3, 8), g.constant(np.float32(0)), g.constant(np.float32(6)))
    x = g.relu(g.conv(x, 8, 8, group=8))
    return g.head(g.conv(x, 8, 6, kernel=1), 6)


def depthwise_multiplier(g: GraphMaker) -> str:
    x = g.conv(g.relu(g.conv("x", 3, 6)), 6, 12, group=6)
    return g.head(g.relu(x), 12)


def grouped(g: GraphMaker) -> str:
    x = g.relu(g.conv(g.relu(g.conv("x", 3, 8)), 8, 12, group=2))
    return g.head(x, 12)


def concatenation(g: GraphMaker) -> str:
    left, right = g.relu(g.conv("x", 3, 6)), g.conv("x", 3, 4, kernel=1)
    joined = g.add("Concat", left, right, axis=1)
    return g.head(g.relu(g.conv(joined, 10, 8)), 8)


def dense_block(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 6))
    x = g.add("Concat", x, g.relu(g.conv(x, 6, 4)), axis=1)
    x = g.add("Concat", x, g.relu(g.conv(x, 10, 4)), axis=1)
    return g.head(x, 14)


def squeeze_excite(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 8))
    s = g.relu(g.conv(g.add("GlobalAveragePool", x), 8, 4, kernel=1))
    s = g.add("Sigmoid", g.conv(s, 4, 8, kernel=1))
    return g.head(g.conv(g.add("Mul", x, s), 8, 6), 6)


def flatten_features(g: GraphMaker) -> str:
    x = g.add("MaxPool", g.relu(g.conv("x", 3, 6)), kernel_shape=[2, 2], strides=[2, 2])
    return g.dense(g.relu(g.dense(g.add("Flatten", x), 6 * 16, 10)), 10, 3)


def reshape_features(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 4))
    x = g.add("Reshape", x, g.constant(np.array([-1, 4 * 64], np.int64)))
    return g.dense(x, 256, 3)


def channel_shuffle(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 8))
    x = g.add("Reshape", x, g.constant(np.array([-1, 2, 4, 8, 8], np.int64)))
    x = g.add("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = g.add("Reshape", x, g.constant(np.array([-1, 8, 8, 8], np.int64)))
    return g.head(g.relu(g.conv(x, 8, 6)), 6)


def split_halves(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 8))
    left, right = g.add("Split", x, outputs=2, axis=1)
    return g.head(g.relu(g.conv(g.add("Add", left, right), 4, 6)), 6)


def split_sizes(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 8))
    sizes = g.constant(np.array([3, 5], np.int64))
    left, right = g.add("Split", x, sizes, outputs=2, axis=1)
    joined = g.add("Concat", g.conv(left, 3, 4), right, axis=1)
    return g.head(g.relu(joined), 9)


def token_mixing(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 6))
    x = g.add("Reshape", x, g.constant(np.array([0, 6, 64], np.int64)))
    x = g.add("Transpose", x, perm=[0, 2, 1])
    x = g.add("Add", g.add("MatMul", x, g.random(6, 10)), g.random(10))
    x = g.add("MatMul", g.relu(x), g.random(10, 6))
    return g.dense(g.add("ReduceMean", x, axes=[1], keepdims=0), 6, 3)


def transposed(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 6))
    x = g.add("ConvTranspose", x, g.random(6, 8, 2, 2), g.random(8), strides=[2, 2])
    return g.head(g.relu(x), 8)


def scaled_and_padded(g: GraphMaker) -> str:
    x = g.add("Mul", g.conv("x", 3, 6), g.random(6, 1, 1))
    x = g.add("PRelu", x, g.random(6, 1, 1))
    x = g.add("Pad", x, g.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)))
    return g.head(g.relu(g.conv(x, 6, 8)), 8)


def unknown_operator(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 6))
    x = g.add("LpNormalization", x, axis=1, p=2)
    x = g.relu(g.conv(g.relu(g.conv(x, 6, 10)), 10, 8))
    return g.head(g.add("LRN", x, size=3), 8)


def shared_weight(g: GraphMaker) -> str:
    weight, bias = g.random(6, 6, 3, 3), g.random(6)
    x = g.relu(g.conv("x", 3, 6))
    for _ in range(2):
        x = g.relu(g.add("Conv", x, weight, bias, pads=[1, 1, 1, 1]))
    return g.head(g.relu(g.conv(x, 6, 8)), 8)


TOPOLOGIES: dict[str, Callable[[GraphMaker], str]] = {
    function.__name__: function
    for function in (
        plain, residual, batch_norm, depthwise, depthwise_multiplier, grouped, concatenation,
        dense_block, squeeze_excite, flatten_features, reshape_features, channel_shuffle,
        split_halves, split_sizes, token_mixing, transposed, scaled_and_padded,
        unknown_operator, shared_weight,
    )
}  # fmt: skip
