"""Normalization by running, layer or instance statistics."""

import math
from collections.abc import Sequence
from typing import Any

from compression.engine.training.engines.arrays import Array, Engine
from compression.engine.training.operators.node import Builder, Compute, Node

EPSILON = 1e-5


def build_batch_norm(node: Node) -> Compute:
    """By the stored statistics, or by the batch's, which then move the stored ones.

    The function returns the result, or with `follows_batch` the result and the new mean and
    variance.
    """
    if node.outputs > 1:
        raise node.refuse("more than one output")
    epsilon, share = node.get("epsilon", EPSILON), 1.0 - node.get("momentum", 0.9)

    def normalize(
        arrays: Engine,
        x: Array,
        scale: Array,
        bias: Array,
        mean: Array,
        variance: Array,
        *,
        follows_batch: bool = False,
    ) -> Any:
        shape = (1, -1, *[1] * (x.ndim - 2))
        if not follows_batch:
            factor = scale / arrays.xp.sqrt(variance + epsilon)
            return x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        present = arrays.reduce("mean", x, axes, True)
        centred = x - present
        spread = arrays.reduce("mean", centred * centred, axes, True)
        normal = centred / arrays.xp.sqrt(spread + epsilon)
        count = math.prod(x.shape) // x.shape[1]
        moved = (
            mean + share * (present.reshape((-1,)) - mean),
            variance + share * (spread.reshape((-1,)) * (count / max(count - 1, 1)) - variance),
        )
        return normal * scale.reshape(shape) + bias.reshape(shape), *moved

    return normalize


def normalize_over(arrays: Engine, x: Array, axes: Sequence[int], epsilon: float) -> Array:
    """Mean 0 and variance 1 over the axes."""
    centred = x - arrays.reduce("mean", x, axes, True)
    spread = arrays.reduce("mean", centred * centred, axes, True)
    return centred / arrays.xp.sqrt(spread + epsilon)


def build_layer_norm(node: Node) -> Compute:
    if node.outputs > 1:
        raise node.refuse("more than one output")
    axis, epsilon = node.get("axis", -1), node.get("epsilon", EPSILON)

    def normalize(arrays: Engine, x: Array, scale: Array, bias: Array = None) -> Array:
        axes = range(axis % x.ndim, x.ndim)
        normal = normalize_over(arrays, x, axes, epsilon) * scale
        return normal if bias is None else normal + bias

    return normalize


def build_instance_norm(node: Node) -> Compute:
    epsilon = node.get("epsilon", EPSILON)

    def normalize(arrays: Engine, x: Array, scale: Array, bias: Array) -> Array:
        shape = (1, -1, *[1] * (x.ndim - 2))
        normal = normalize_over(arrays, x, range(2, x.ndim), epsilon)
        return normal * scale.reshape(shape) + bias.reshape(shape)

    return normalize


def build_dropout(node: Node) -> Compute:
    """Nothing happens: the graph is one for inference."""
    if node.outputs > 1:
        raise node.refuse("a mask output")
    return lambda arrays, x, *_: x


NORMALIZATION: dict[str, Builder] = {
    "BatchNormalization": build_batch_norm,
    "Dropout": build_dropout,
    "InstanceNormalization": build_instance_norm,
    "LayerNormalization": build_layer_norm,
}
