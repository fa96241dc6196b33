"""Convolutions and matrix products: where the weights are."""

from compression.engine.training.engines.arrays import Array, Engine
from compression.engine.training.operators.node import Builder, Compute, Node, simple


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


def add_bias(x: Array, bias: Array) -> Array:
    """A number for each channel of [N, C, ...]."""
    return x if bias is None else x + bias.reshape((1, -1, *[1] * (x.ndim - 2)))


def build_conv(node: Node) -> Compute:
    strides, dilations = node.get("strides"), node.get("dilations")
    group = node.get("group", 1)

    def convolve(arrays: Engine, x: Array, weight: Array, bias: Array = None) -> Array:
        rank = weight.ndim - 2
        steps, spread = strides or [1] * rank, dilations or [1] * rank
        before, after = choose_pads(node, list(x.shape[2:]), list(weight.shape[2:]), steps, spread)
        return add_bias(arrays.convolve(x, weight, steps, before, after, spread, group), bias)

    return convolve


def build_conv_transpose(node: Node) -> Compute:
    if node.get("output_shape") or node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise node.refuse("output_shape or auto_pad")
    strides, dilations = node.get("strides"), node.get("dilations")
    group, extra = node.get("group", 1), node.get("output_padding")

    def convolve(arrays: Engine, x: Array, weight: Array, bias: Array = None) -> Array:
        rank = weight.ndim - 2
        steps, spread = strides or [1] * rank, dilations or [1] * rank
        pads = node.get("pads") or [0] * (2 * rank)
        added = extra or [0] * rank
        full = arrays.convolve_transposed(x, weight, steps, spread, added, group)
        where = [slice(None), slice(None)]
        for axis in range(rank):
            where.append(slice(pads[axis], full.shape[axis + 2] - pads[axis + rank]))
        return add_bias(full[tuple(where)], bias)

    return convolve


def build_gemm(node: Node) -> Compute:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    flips_a, flips_b = node.get("transA", 0), node.get("transB", 0)

    def multiply(arrays: Engine, a: Array, b: Array, c: Array = None) -> Array:
        product = arrays.xp.matmul(a.T if flips_a else a, b.T if flips_b else b)
        product = product if alpha == 1.0 else product * alpha
        return product if c is None else product + (c if beta == 1.0 else c * beta)

    return multiply


LINEAR: dict[str, Builder] = {
    "Conv": build_conv,
    "ConvTranspose": build_conv_transpose,
    "Gemm": build_gemm,
    "MatMul": simple("matmul"),
}
