"""Whole networks, and graphs with parts that must stay as they are, for the pruning property."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from tests.factories.topologies import GraphMaker

FLOAT = onnx.TensorProto.FLOAT


def relu6(g: GraphMaker, x: str) -> str:
    return g.add("Clip", x, g.constant(np.float32(0)), g.constant(np.float32(6)))


def inverted_residual(g: GraphMaker, x: str, into: int, out: int) -> str:
    hidden = 3 * into
    y = relu6(g, g.conv(x, into, hidden, kernel=1))
    y = g.conv(relu6(g, g.conv(y, hidden, hidden, group=hidden)), hidden, out, kernel=1)
    return g.add("Add", x, y) if into == out else y


def mobilenet(g: GraphMaker) -> str:
    x = relu6(g, g.conv("x", 3, 8))
    for into, out in ((8, 8), (8, 12), (12, 12), (12, 12)):
        x = inverted_residual(g, x, into, out)
    return g.head(relu6(g, g.conv(x, 12, 24, kernel=1)), 24)


def resnet(g: GraphMaker) -> str:
    x = g.relu(g.conv("x", 3, 8))
    for into, out in ((8, 8), (8, 16), (16, 16)):
        y = g.conv(g.relu(g.conv(x, into, out)), out, out)
        shortcut = x if into == out else g.conv(x, into, out, kernel=1)
        x = g.relu(g.add("Add", y, shortcut))
    return g.head(x, 16)


def two_outputs(g: GraphMaker) -> list[str]:
    x = g.relu(g.conv("x", 3, 8))
    features = g.relu(g.conv(x, 8, 6))
    hidden = g.relu(g.conv(features, 6, 10))
    return [g.head(hidden, 10), g.add("Flatten", features)]


def transformer_block(g: GraphMaker) -> str:
    """Attention over 64 tokens of width 8, then a hidden layer of 20, which alone may shrink."""

    def normalize(x: str) -> str:
        return g.add("LayerNormalization", x, g.random(8), g.random(8), axis=-1)

    x = g.add("Reshape", g.conv("x", 3, 8), g.constant(np.array([0, 8, 64], np.int64)))
    x = g.add("Transpose", x, perm=[0, 2, 1])
    y = normalize(x)
    queries, keys, values = (g.add("MatMul", y, g.random(8, 8)) for _ in range(3))
    scores = g.add("MatMul", queries, g.add("Transpose", keys, perm=[0, 2, 1]))
    mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), values)
    x = g.add("Add", x, g.add("MatMul", mixed, g.random(8, 8)))
    y = g.add("Add", g.add("MatMul", normalize(x), g.random(8, 20)), g.random(20))
    x = g.add("Add", x, g.add("MatMul", g.relu(y), g.random(20, 8)))
    return g.dense(g.add("ReduceMean", normalize(x), axes=[1], keepdims=0), 8, 3)


def foreign_operator(g: GraphMaker) -> str:
    """An operator of another domain, which the runtime knows and the rules do not."""
    x = g.conv(g.relu(g.conv("x", 3, 8)), 8, 10)
    return g.head(g.add("QuickGelu", x, domain="com.microsoft"), 10)


def branches(g: GraphMaker) -> str:
    """Branches that read a tensor and a weight from outside."""
    weight, bias = g.random(6, 6, 3, 3), g.random(6)
    x = g.relu(g.conv("x", 3, 6))
    same = {"pads": [1, 1, 1, 1]}
    y = g.relu(g.add("Conv", g.relu(g.conv(x, 6, 6)), weight, bias, **same))
    then_node = helper.make_node("Conv", [x, weight, bias], ["then"], **same)
    else_node = helper.make_node("Neg", [x], ["else"])
    then_branch, else_branch = (
        helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(name, FLOAT, ["N", 6, 8, 8])]
        )
        for name, node in (("then", then_node), ("else", else_node))
    )
    total = g.add("ReduceSum", "x", keepdims=0)
    condition = g.add("Greater", total, g.constant(np.float32(0)))
    z = g.add("If", condition, then_branch=then_branch, else_branch=else_branch)
    return g.head(g.relu(g.conv(g.add("Add", y, z), 6, 10)), 10)


def positions_of_maxima(g: GraphMaker) -> str:
    """Positions count through all channels, so the pooled tensor keeps them."""
    x = g.relu(g.conv("x", 3, 6))
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    pooled, positions = g.add("MaxPool", x, outputs=2, **window)
    y = g.conv(g.relu(g.conv(pooled, 6, 8)), 8, 6)
    x = g.add("MaxUnpool", y, positions, **window)
    return g.head(g.relu(g.conv(x, 6, 8)), 8)


def channels_last_pooling(g: GraphMaker) -> str:
    """A pooling that takes channels for columns."""
    x = g.add("Transpose", g.relu(g.conv("x", 3, 8)), perm=[0, 2, 3, 1])
    x = g.add("MaxPool", x, kernel_shape=[1, 2], strides=[1, 2])
    x = g.add("Transpose", x, perm=[0, 3, 1, 2])
    return g.head(g.relu(g.conv(x, 4, 8)), 8)


def softmax_over_channels(g: GraphMaker) -> str:
    x = g.add("Softmax", g.conv("x", 3, 6), axis=1)
    return g.head(g.relu(g.conv(x, 6, 8)), 8)


def shape_at_run_time(g: GraphMaker) -> str:
    """A scale that is computed from the channel count."""
    x = g.relu(g.conv("x", 3, 6))
    count = g.add("Gather", g.add("Shape", x), g.constant(np.array(1, np.int64)))
    x = g.add("Div", x, g.add("Cast", count, to=FLOAT))
    return g.head(g.relu(g.conv(x, 6, 8)), 8)


def squeezed_channel(g: GraphMaker) -> str:
    """A single channel whose axis goes away."""
    x = g.add("Squeeze", g.conv(g.relu(g.conv("x", 3, 8)), 8, 1), g.constant(np.array([1])))
    return g.dense(g.add("Flatten", x), 64, 3)


def resized_channels(g: GraphMaker) -> str:
    """Factors that double the channels too."""
    factors = g.constant(np.array([1, 2, 1, 1], np.float32))
    x = g.add("Resize", g.relu(g.conv("x", 3, 4)), "", factors, mode="nearest")
    return g.head(g.relu(g.conv(x, 8, 6)), 6)


NETWORKS: dict[str, Callable[[GraphMaker], str | list[str]]] = {
    function.__name__: function
    for function in (
        mobilenet, resnet, two_outputs, transformer_block, foreign_operator, branches,
        positions_of_maxima, channels_last_pooling, softmax_over_channels, shape_at_run_time,
        squeezed_channel, resized_channels,
    )
}  # fmt: skip
