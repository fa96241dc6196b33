"""How each operator passes slots on. A rule that meets something else raises and is pinned."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from compression.engine.pruning.graph import Axes, NotUnderstoodError, PruningGraph, ShapeFix
from compression.engine.pruning.reshape_rules import RESHAPE_RULES

Rule = Callable[[PruningGraph, onnx.NodeProto, dict[str, Any]], None]

# Operators that act on each element.
SAME_SHAPE = [
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "Clip",
    "Elu",
    "Selu",
    "HardSigmoid",
    "HardSwish",
    "Softplus",
    "Softsign",
    "Identity",
    "Cast",
    "Dropout",
    "Neg",
    "Abs",
    "Exp",
    "Log",
    "Sqrt",
    "Erf",
    "Gelu",
    "Mish",
    "Swish",
    "Celu",
    "ThresholdedRelu",
    "Floor",
    "Ceil",
    "Round",
    "Sign",
    "Reciprocal",
    "Not",
]
# Operators that mix positions of every axis behind the channels, each channel for itself.
POOLS = [
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LpPool",
    "GlobalLpPool",
]
BROADCAST = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Min",
    "Max",
    "PRelu",
    "Sum",
    "Mean",
    "Where",
    "Greater",
    "Less",
    "Equal",
    "And",
    "Or",
]


def pass_through(graph: PruningGraph, node: onnx.NodeProto, _: dict[str, Any]) -> None:
    """The first output has the axes of the first input; another output that is read has none."""
    # Positions of a pooling's maxima, say, count through all channels.
    if any(name in graph.read for name in node.output[1:]):
        raise NotUnderstoodError("a second output is read")
    graph.tensors[node.output[0]] = dict(graph.axes_of(node.input[0]))


def pool(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Pooling keeps channels apart where they are on axis 1, and mixes them anywhere else."""
    only_channels(graph, node.input[0])
    pass_through(graph, node, attributes)


def only_channels(graph: PruningGraph, name: str) -> Any:
    """The slots on axis 1 or None; no other axis may be followed."""
    axes = graph.axes_of(name)
    if set(axes) - {1}:
        raise NotUnderstoodError("another axis than the channels is followed")
    return axes.get(1)


def broadcast(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Operands of one axis belong together, unless an operand has size 1 there."""
    if attributes.get("broadcast"):
        raise NotUnderstoodError("broadcasting of operator set 6")
    names = [name for name in node.input if name]
    ranks = {name: len(graph.shape_of(name)) for name in names}
    rank = ranks[names[0]] if node.op_type == "PRelu" else max(ranks.values())
    result: Axes = {}
    for axis in range(rank):
        items = []
        for name in names:
            own = axis - (rank - ranks[name])
            if own >= 0:
                items.append((name, own, graph.shape_of(name)[own], graph.axes_of(name).get(own)))
        followed = [slots for *_, slots in items if slots is not None]
        if not followed:
            continue
        first = followed[0]
        for name, own, size, slots in items:
            if slots is not None and len(slots) == len(first):
                graph.table.unite(first, slots)
            elif slots is not None:
                graph.table.pin(first, "broadcast")
                graph.table.pin(slots, "broadcast")
            elif size == 1:
                continue
            elif name in graph.weights and size == len(first):
                graph.weight_axis(name, own, "elementwise", first)
            else:
                graph.table.pin(first, "operand not followed")
        result[axis] = first
    graph.tensors[node.output[0]] = result


def convolve(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Dense, depthwise and grouped convolutions."""
    source, name = node.input[0], node.input[1]
    weight = graph.weight(name)
    groups = attributes.get("group", 1)
    channels = only_channels(graph, source)
    out = graph.weight_axis(name, 0, "out")
    if groups == 1:
        if channels is not None:
            graph.weight_axis(name, 1, "in", channels)
    elif weight.shape[1] == 1:
        if channels is None:
            graph.table.pin(out, "depthwise input not followed")
        else:
            graph.table.unite(np.repeat(channels, weight.shape[0] // groups), out)
            graph.fixes.append(ShapeFix("group", node.output[0], [channels]))
    else:
        _convolve_groups(graph, name, groups, channels, out)
    if len(node.input) > 2 and node.input[2]:
        graph.weight_axis(node.input[2], 0, "vector", out)
    graph.tensors[node.output[0]] = {1: out}


def _convolve_groups(
    graph: PruningGraph, name: str, groups: int, channels: Any, out: np.ndarray
) -> None:
    """Each group keeps the same number of channels: equal positions of all groups are tied."""
    rows = out.reshape(groups, -1)
    for row in rows[1:]:
        graph.table.unite(rows[0], row)
    if channels is None:
        return
    inner = graph.weight_axis(name, 1, "in")
    for row in channels.reshape(groups, -1):
        graph.table.unite(inner, row)


def convolve_transposed(
    graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]
) -> None:
    """Transposed convolutions without groups; their weight is [in, out, ...]."""
    if attributes.get("group", 1) != 1:
        raise NotUnderstoodError("grouped transposed convolution")
    name = node.input[1]
    channels = only_channels(graph, node.input[0])
    graph.weight(name)
    if channels is not None:
        graph.weight_axis(name, 0, "in", channels)
    out = graph.weight_axis(name, 1, "out")
    if len(node.input) > 2 and node.input[2]:
        graph.weight_axis(node.input[2], 0, "vector", out)
    graph.tensors[node.output[0]] = {1: out}


def multiply_dense(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Gemm with a constant second operand."""
    if attributes.get("transA", 0):
        raise NotUnderstoodError("transposed first operand")
    name = node.input[1]
    graph.weight(name)
    out_axis, in_axis = (0, 1) if attributes.get("transB", 0) else (1, 0)
    features = only_channels(graph, node.input[0])
    if features is not None:
        graph.weight_axis(name, in_axis, "in", features)
    out = graph.weight_axis(name, out_axis, "out")
    if len(node.input) > 2 and node.input[2]:
        bias = graph.weight(node.input[2])
        if bias.ndim and bias.shape[-1] == len(out) and len(out) > 1:
            graph.weight_axis(node.input[2], bias.ndim - 1, "vector", out)
    graph.tensors[node.output[0]] = {1: out}


def multiply_matrix(graph: PruningGraph, node: onnx.NodeProto, _: dict[str, Any]) -> None:
    """MatMul with a constant matrix on the right."""
    source, name = node.input
    if graph.weight(name).ndim != 2:
        raise NotUnderstoodError("batched product")
    last = len(graph.shape_of(source)) - 1
    axes = dict(graph.axes_of(source))
    features = axes.pop(last, None)
    if features is not None:
        graph.weight_axis(name, 0, "in", features)
    axes[last] = graph.weight_axis(name, 1, "out")
    graph.tensors[node.output[0]] = axes


def normalize_batch(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Batch and instance normalization: one value of each vector per channel."""
    if not attributes.get("spatial", 1):
        raise NotUnderstoodError("normalization per position")
    channels = only_channels(graph, node.input[0])
    if channels is not None:
        for name in node.input[1:]:
            graph.weight_axis(name, 0, "vector", channels)
    pass_through(graph, node, attributes)


def softmax(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """A softmax over a followed axis mixes its channels, so they stay."""
    rank = len(graph.shape_of(node.input[0]))
    # Before operator set 13 it ran over all axes from the given one on.
    is_flat = graph.opset < 13
    axis = attributes.get("axis", 1 if is_flat else -1) % rank
    mixed = set(range(axis, rank)) if is_flat else {axis}
    if mixed & set(graph.axes_of(node.input[0])):
        raise NotUnderstoodError("softmax over channels")
    pass_through(graph, node, attributes)


def read_shape(graph: PruningGraph, node: onnx.NodeProto, _: dict[str, Any]) -> None:
    """A shape read at run time would change with the channels: they stay."""
    if graph.axes_of(node.input[0]):
        raise NotUnderstoodError("shape of a followed tensor")


RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME_SHAPE, pass_through),
    **dict.fromkeys(POOLS, pool),
    **dict.fromkeys(BROADCAST, broadcast),
    "Conv": convolve,
    "ConvTranspose": convolve_transposed,
    "Gemm": multiply_dense,
    "MatMul": multiply_matrix,
    "BatchNormalization": normalize_batch,
    "InstanceNormalization": normalize_batch,
    "Softmax": softmax,
    "Shape": read_shape,
    **RESHAPE_RULES,
}
