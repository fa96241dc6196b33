"""What the convolutions and products of a pruned graph take, by a model of the CPU's kernels. Pure.

A measured time would differ from run to run, and with it the channels that are removed. The
constants were fitted to 70 shapes of ONNX Runtime 1.32 on one core of an x86 with AVX-512 VNNI, and
only their proportions matter: which width buys how much time. Two facts are behind most of it.
Kernels compute 16 channels at once, so a width is paid for up to the next multiple. And INT8
depthwise kernels compute what is left over behind the last 16 one by one, so that 24 channels take
longer than 32.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from compression.engine.graph.structure import attributes_of
from compression.engine.pruning.graph import ChannelGroup, PruningGraph


@dataclass(frozen=True)
class Kernels:
    """Nanoseconds per unit of work.

    Attributes:
        vector: channels computed at once.
        multiply: a multiply-accumulate of a dense convolution or product.
        filter: one of a depthwise convolution, within a whole vector of channels.
        rest: one of a depthwise convolution beyond the last whole vector; None where the vector is
            filled up instead.
        output: storing a value.
        read: looking up one position of a filter larger than 1x1, whatever the channels.
    """

    vector: int
    multiply: float
    filter: float
    rest: float | None
    output: float
    read: float

    def dense(self, positions: int, taps: int, inputs: int, outputs: int) -> float:
        """Of a dense convolution of `taps` positions of `inputs` channels, or a product."""
        wide = math.ceil(outputs / self.vector) * self.vector
        multiplies = positions * taps * inputs * wide * self.multiply
        return multiplies + positions * outputs * self.output + self._look_up(positions, taps)

    def depthwise(self, positions: int, taps: int, channels: int) -> float:
        """Of a convolution that filters each channel alone."""
        rest = channels % self.vector
        whole = channels - rest
        if self.rest is None and rest:
            rest, whole = 0, whole + self.vector
        each = whole * self.filter + rest * (self.rest or 0.0)
        stored = positions * channels * self.output
        return positions * taps * each + stored + self._look_up(positions, taps)

    def _look_up(self, positions: int, taps: int) -> float:
        return positions * taps * self.read if taps > 1 else 0.0


INT8_KERNELS = Kernels(16, multiply=0.0044, filter=0.03, rest=0.26, output=0.11, read=1.2)
FLOAT_KERNELS = Kernels(16, multiply=0.018, filter=0.05, rest=None, output=0.05, read=0.0)


def estimate_nanoseconds(
    graph: PruningGraph, shapes: Mapping[str, Sequence[int]], kernels: Kernels
) -> float:
    """The time of the graph's convolutions and products on one row.

    Nodes whose output has free dimensions besides the rows do not count: 0 where all are such.

    Args:
        shapes: the shape of each weight, as `kept_shapes` gives them.
    """
    return math.fsum(_node_times(graph, shapes, kernels))


def _node_times(
    graph: PruningGraph, shapes: Mapping[str, Sequence[int]], kernels: Kernels
) -> Iterator[float]:
    for node in graph.model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2:
            continue
        weight, given = shapes.get(node.input[1]), graph.shapes.get(node.output[0])
        dims = [dim for dim in (given or [None])[1:] if dim is not None]
        if weight is None or given is None or len(dims) != len(given) - 1:
            continue
        if node.op_type == "Conv":
            positions, taps = math.prod(dims[1:]), math.prod(weight[2:])
            if is_depthwise(node, weight):
                yield kernels.depthwise(positions, taps, weight[0])
            else:
                yield kernels.dense(positions, taps, weight[1], weight[0])
        elif len(weight) == 2:
            is_transposed = node.op_type == "Gemm" and attributes_of(node).get("transB", 0)
            outputs, inputs = weight if is_transposed else weight[::-1]
            yield kernels.dense(math.prod(dims[:-1]), 1, inputs, outputs)


def is_depthwise(node: onnx.NodeProto, shape: Sequence[int]) -> bool:
    """Whether a node with a weight of that shape filters each channel alone."""
    return (
        node.op_type == "Conv"
        and len(shape) > 2
        and shape[1] == 1
        and attributes_of(node).get("group", 1) > 1
    )


def find_filtered(graph: PruningGraph, groups: Sequence[ChannelGroup]) -> frozenset[int]:
    """The groups, by their place, whose channels a depthwise convolution filters."""
    filters = {
        node.input[1]
        for node in graph.model.graph.node
        if len(node.input) > 1
        and node.input[1] in graph.weights
        and is_depthwise(node, graph.weights[node.input[1]].shape)
    }
    return frozenset(
        index
        for index, group in enumerate(groups)
        if any(name in filters for name, _ in group.axes)
    )
