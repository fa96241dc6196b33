"""Convolutions and matrix products: where the weights are."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compression.engine.training.operators.activations import simple
from compression.engine.training.operators.node import Builder, Compute, Node

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def choose_pads(
    node: Node, size: list[int], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each axis, from `pads` or `auto_pad` and the input's size."""
    rank = len(kernel)
    mode = node.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = node.get("pads") or [0] * (2 * rank)
        return list(pads[:rank]), list(pads[rank:])
    if mode == "VALID":
        return [0] * rank, [0] * rank
    before, after = [], []
    for length, width, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        wanted = -(-length // stride)
        total = max((wanted - 1) * stride + (width - 1) * dilation + 1 - length, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before, after


def pad_axes(x: Tensor, before: list[int], after: list[int], value: float = 0.0) -> Tensor:
    """`x` padded along its last axes; F.pad lists the last axis first."""
    flat = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
    return F.pad(x, flat, value=value)


def build_conv(node: Node) -> Compute:
    strides, dilations = node.get("strides"), node.get("dilations")
    group = node.get("group", 1)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.ndim - 2
        steps, spread = strides or [1] * rank, dilations or [1] * rank
        before, after = choose_pads(node, list(x.shape[2:]), list(weight.shape[2:]), steps, spread)
        padding: Any = before
        if before != after:
            x, padding = pad_axes(x, before, after), [0] * rank
        return _CONVOLUTIONS[rank](x, weight, bias, steps, padding, spread, group)

    return convolve


def build_conv_transpose(node: Node) -> Compute:
    if node.get("output_shape") or node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise node.refuse("output_shape or auto_pad")
    strides, dilations = node.get("strides"), node.get("dilations")
    group, extra = node.get("group", 1), node.get("output_padding")

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.ndim - 2
        steps, spread = strides or [1] * rank, dilations or [1] * rank
        pads = node.get("pads") or [0] * (2 * rank)
        added = extra or [0] * rank
        full = _TRANSPOSED[rank](x, weight, bias, steps, [0] * rank, added, group, spread)
        for axis in range(rank):
            length = full.shape[axis + 2] - pads[axis] - pads[axis + rank]
            full = full.narrow(axis + 2, pads[axis], length)
        return full

    return convolve


def build_gemm(node: Node) -> Compute:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    flips_a, flips_b = node.get("transA", 0), node.get("transB", 0)

    def multiply(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = torch.matmul(a.t() if flips_a else a, b.t() if flips_b else b)
        product = product if alpha == 1.0 else product * alpha
        return product if c is None else product + (c if beta == 1.0 else c * beta)

    return multiply


LINEAR: dict[str, Builder] = {
    "Conv": build_conv,
    "ConvTranspose": build_conv_transpose,
    "Gemm": build_gemm,
    "MatMul": simple(torch.matmul),
}
