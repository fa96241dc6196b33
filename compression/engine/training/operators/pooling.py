"""Pooling windows, and reductions over axes."""

import numpy as np

from compression.engine.training.engines.arrays import Array, Arrays, Engine
from compression.engine.training.operators.linear import choose_pads
from compression.engine.training.operators.node import Builder, Compute, Node, to_integers


def round_up(
    size: list[int],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    before: list[int],
    after: list[int],
) -> list[int]:
    """More padding behind each axis, so that the last window, where one begins, is whole.

    A window that would begin in the padding behind is left out.
    """
    longer = []
    for axis, length in enumerate(size):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        padded = length + before[axis] + after[axis]
        count = -(-(padded - reach) // strides[axis]) + 1
        if (count - 1) * strides[axis] >= length + before[axis]:
            count -= 1
        longer.append(after[axis] + max((count - 1) * strides[axis] + reach - padded, 0))
    return longer


def build_max_pool(node: Node) -> Compute:
    if node.outputs > 1:
        raise node.refuse("an index output")
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides = node.get("strides") or [1] * rank
    dilations = node.get("dilations") or [1] * rank
    rounds_up = bool(node.get("ceil_mode", 0))

    def pool(arrays: Engine, x: Array) -> Array:
        size = list(x.shape[2:])
        before, after = choose_pads(node, size, kernel, strides, dilations)
        if rounds_up:
            after = round_up(size, kernel, strides, dilations, before, after)
        if any(before) or any(after):
            x = arrays.pad(x, [0, 0, *before], [0, 0, *after], float("-inf"))
        return arrays.pool_maximum(x, kernel, strides, dilations)

    return pool


def build_average_pool(node: Node) -> Compute:
    kernel = node.get("kernel_shape")
    strides, ones = node.get("strides") or [1] * len(kernel), [1] * len(kernel)
    if any(step != 1 for step in node.get("dilations") or ones):
        raise node.refuse("dilations")
    rounds_up, counts_pads = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))

    def pool(arrays: Engine, x: Array) -> Array:
        size = list(x.shape[2:])
        before, after = choose_pads(node, size, kernel, strides, ones)
        behind = round_up(size, kernel, strides, ones, before, after) if rounds_up else after
        if not any(before) and not any(behind):
            return arrays.pool_mean(x, kernel, strides)
        padded = arrays.pool_mean(arrays.pad(x, [0, 0, *before], [0, 0, *behind]), kernel, strides)
        share = _share_inside(size, kernel, strides, (before, after, behind), counts_pads)
        return padded / arrays.to_array(share)

    return pool


def _share_inside(
    size: list[int],
    kernel: list[int],
    strides: list[int],
    pads: tuple[list[int], list[int], list[int]],
    counts_pads: bool,
) -> np.ndarray:
    """The share of each window that counts: what lies on the input and, if so, on its padding.

    What was added behind the padding to make the last window whole never counts.
    """
    share = np.ones((1, 1), np.float32)
    for axis, length in enumerate(size):
        before, after, behind = (pad[axis] for pad in pads)
        counted = np.zeros(length + before + behind, np.float32)
        counted[
            slice(0, before + length + after) if counts_pads else slice(before, before + length)
        ] = 1
        starts = range(0, len(counted) - kernel[axis] + 1, strides[axis])
        line = np.array([counted[at : at + kernel[axis]].mean() for at in starts], np.float32)
        share = share[..., None] * line
    return share


def build_global_pool(name: str) -> Builder:
    """The builder of a pool over all axes but batch and channel."""
    return lambda node: lambda arrays, x: arrays.reduce(name, x, range(2, x.ndim), True)


def build_reduction(name: str) -> Builder:
    """The builder of a reduction whose axes are an attribute or, in later sets, an input."""

    def build(node: Node) -> Compute:
        fixed, keeps = node.get("axes"), bool(node.get("keepdims", 1))
        does_nothing = bool(node.get("noop_with_empty_axes", 0))

        def reduce(arrays: Arrays, x: Array, given: Array = None) -> Array:
            axes = fixed if given is None else to_integers(given)
            if not axes and does_nothing:
                return x
            return arrays.reduce(name, x, axes or range(x.ndim), keeps)

        return reduce

    return build


POOLING: dict[str, Builder] = {
    "AveragePool": build_average_pool,
    "GlobalAveragePool": build_global_pool("mean"),
    "GlobalMaxPool": build_global_pool("amax"),
    "MaxPool": build_max_pool,
    "ReduceMax": build_reduction("amax"),
    "ReduceMean": build_reduction("mean"),
    "ReduceMin": build_reduction("amin"),
    "ReduceSum": build_reduction("sum"),
}
