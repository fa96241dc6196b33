"""Pooling windows, and reductions over axes."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compression.engine.training.operators.linear import choose_pads, pad_axes
from compression.engine.training.operators.node import Builder, Compute, Node, to_integers

_MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEANS: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def build_max_pool(node: Node) -> Compute:
    if node.outputs > 1:
        raise node.refuse("an index output")
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides = node.get("strides") or [1] * rank
    dilations = node.get("dilations") or [1] * rank
    rounds_up = bool(node.get("ceil_mode", 0))

    def pool(x: Tensor) -> Tensor:
        before, after = choose_pads(node, list(x.shape[2:]), kernel, strides, dilations)
        if any(before) or any(after):
            x = pad_axes(x, before, after, float("-inf"))
        return _MAXIMA[rank](x, kernel, strides, 0, dilations, rounds_up)

    return pool


def build_average_pool(node: Node) -> Compute:
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides, ones = node.get("strides") or [1] * rank, [1] * rank
    if any(step != 1 for step in node.get("dilations") or ones):
        raise node.refuse("dilations")
    rounds_up, counts_pads = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))

    def pool(x: Tensor) -> Tensor:
        before, after = choose_pads(node, list(x.shape[2:]), kernel, strides, ones)
        if not any(before) and not any(after):
            return _MEANS[rank](x, kernel, strides, 0, rounds_up)
        padded = _MEANS[rank](pad_axes(x, before, after), kernel, strides, 0, rounds_up)
        if counts_pads:
            return padded
        # The share of each window that lies on the input.
        inside = pad_axes(torch.ones_like(x[:1, :1]), before, after)
        return padded / _MEANS[rank](inside, kernel, strides, 0, rounds_up)

    return pool


def build_global_pool(function: Compute) -> Builder:
    """The builder of a pool over all axes but batch and channel."""
    return lambda node: lambda x: function(x, dim=tuple(range(2, x.ndim)), keepdim=True)


def build_reduction(function: Compute) -> Builder:
    """The builder of a reduction whose axes are an attribute or, in later sets, an input."""

    def build(node: Node) -> Compute:
        fixed, keeps = node.get("axes"), bool(node.get("keepdims", 1))
        does_nothing = bool(node.get("noop_with_empty_axes", 0))

        def reduce(x: Tensor, given: Tensor | None = None) -> Tensor:
            axes = fixed if given is None else to_integers(given)
            if not axes and does_nothing:
                return x
            return function(x, dim=tuple(axes or range(x.ndim)), keepdim=keeps)

        return reduce

    return build


POOLING: dict[str, Builder] = {
    "AveragePool": build_average_pool,
    "GlobalAveragePool": build_global_pool(torch.mean),
    "GlobalMaxPool": build_global_pool(torch.amax),
    "MaxPool": build_max_pool,
    "ReduceMax": build_reduction(torch.amax),
    "ReduceMean": build_reduction(torch.mean),
    "ReduceMin": build_reduction(torch.amin),
    "ReduceSum": build_reduction(torch.sum),
}
