"""Ranges of weights with which no pair of 8-bit products can saturate 16 bits. Pure.

x86 with AVX2 or AVX-512 and without VNNI multiplies U8 activations with S8 weights and adds two
neighbouring products in 16 bits (the instruction VPMADDUBSW). The sum stays exact as long as two
weights of one sign that stand beside each other add up to 128 at most: 255 * 128 = 32640. Halving
the range of all weights ensures that for the price of a whole bit. But the largest weight of a
channel seldom stands beside one as large: a range as wide as the largest sum of a pair ensures it
too, and costs a third of a bit.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compression.engine.graph.structure import attributes_of

Overrides = dict[str, list[dict[str, object]]]


def list_overrides(model: onnx.ModelProto, *, is_per_channel: bool) -> Overrides:
    """The ranges of the weights of convolutions and products, by the weight's name.

    They are what ONNX Runtime's quantizer takes as `TensorQuantOverrides` for symmetric S8 weights.
    A weight that is read in two ways, or by another operator too, has none: it needs the halved
    range.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    axes: dict[str, set[int | None]] = {}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in weights:
                axis = _channel_axis(node, index, len(weights[name].dims))
                # A bias is quantized to 32 bits by its own rule and needs no range.
                if axis is not None or not _is_bias(node, index):
                    axes.setdefault(name, set()).add(axis)
    found: Overrides = {}
    for name, ways in axes.items():
        axis = next(iter(ways))
        if len(ways) != 1 or axis is None:
            continue
        ranges = pair_ranges(numpy_helper.to_array(weights[name]), axis)
        if not is_per_channel:
            found[name] = [_override(float(ranges.max(initial=0.0)))]
            continue
        rows = [_override(float(value)) for value in ranges]
        found[name] = [{**row, "axis": axis} for row in rows]
    return found


def pair_ranges(weight: NDArray, axis: int) -> NDArray[np.float64]:
    """Per output channel the largest sum of two weights of one sign that are added in a pair.

    Kernels lay the weights of a channel out with the input channels innermost and pair them from
    the first on, either through all positions of the filter or anew at each; both count.

    Args:
        weight: of a convolution [M, C, ...] or a product [K, N] or [N, K].
        axis: of the output channels.
    """
    channels = np.moveaxis(weight.astype(np.float64), axis, 0)
    inputs_last = np.moveaxis(channels, 1, -1)
    ranges = np.zeros(len(channels))
    for order in (inputs_last.reshape(len(channels), 1, -1), inputs_last):
        # A last weight without a neighbour is paired with nothing.
        odd = order.shape[-1] % 2
        even = np.pad(order, [(0, 0)] * (order.ndim - 1) + [(0, odd)])
        for sign in (1.0, -1.0):
            sizes = np.maximum(sign * even, 0.0)
            sums = (sizes[..., 0::2] + sizes[..., 1::2]).reshape(len(channels), -1)
            ranges = np.maximum(ranges, sums.max(axis=1, initial=0.0))
    return ranges


def _override(size: float) -> dict[str, object]:
    # Each weight is rounded by half a step at most, so two reach 128 steps at most.
    return {"rmin": np.float32(-size), "rmax": np.float32(size), "reduce_range": False}


def _channel_axis(node: onnx.NodeProto, index: int, rank: int) -> int | None:
    if index != 1:
        return None
    if node.op_type == "Conv" and rank > 2:
        return 0
    if node.op_type == "Gemm" and rank == 2:
        return 0 if attributes_of(node).get("transB", 0) else 1
    return 1 if node.op_type == "MatMul" and rank == 2 else None


def _is_bias(node: onnx.NodeProto, index: int) -> bool:
    return index == 2 and node.op_type in ("Conv", "Gemm")
