"""Shapes: the same numbers, arranged otherwise."""

import math

import numpy as np
from onnx import numpy_helper

from compression.engine.training.engines.arrays import Array, Arrays
from compression.engine.training.operators.node import Builder, Compute, Node, to_integers


def build_flatten(node: Node) -> Compute:
    axis = node.get("axis", 1)

    def flatten(arrays: Arrays, x: Array) -> Array:
        first = axis % x.ndim if axis < 0 else axis
        return x.reshape((math.prod(x.shape[:first]), -1))

    return flatten


def build_reshape(node: Node) -> Compute:
    keeps_zero = bool(node.get("allowzero", 0))

    def reshape(arrays: Arrays, x: Array, shape: Array) -> Array:
        wanted = to_integers(shape)
        if not keeps_zero:
            wanted = [x.shape[axis] if n == 0 else n for axis, n in enumerate(wanted)]
        return x.reshape(tuple(wanted))

    return reshape


def build_transpose(node: Node) -> Compute:
    order = node.get("perm")
    return lambda arrays, x: arrays.permute(x, order or list(reversed(range(x.ndim))))


def build_squeeze(node: Node) -> Compute:
    fixed = node.get("axes")

    def squeeze(arrays: Arrays, x: Array, given: Array = None) -> Array:
        axes = fixed if given is None else to_integers(given)
        gone = {axis % x.ndim for axis in axes} if axes else set()
        shape = x.shape
        for axis in gone:
            if shape[axis] != 1:
                raise ValueError(f"Squeeze of axis {axis} of length {shape[axis]}")
        kept = [n for axis, n in enumerate(shape) if (axis not in gone if axes else n != 1)]
        return x.reshape(tuple(kept))

    return squeeze


def build_unsqueeze(node: Node) -> Compute:
    fixed = node.get("axes")

    def unsqueeze(arrays: Arrays, x: Array, given: Array = None) -> Array:
        axes = fixed if given is None else to_integers(given)
        rank = x.ndim + len(axes)
        shape = list(x.shape)
        for axis in sorted(axis % rank for axis in axes):
            shape.insert(axis, 1)
        return x.reshape(tuple(shape))

    return unsqueeze


def build_shape(node: Node) -> Compute:
    start, end = node.get("start", 0), node.get("end")
    return lambda arrays, x: np.array(tuple(x.shape)[start:end], np.int64)


def build_expand(node: Node) -> Compute:
    def expand(arrays: Arrays, x: Array, shape: Array) -> Array:
        wanted = np.broadcast_shapes(tuple(x.shape), tuple(to_integers(shape)))
        return arrays.xp.broadcast_to(x, wanted)

    return expand


def build_constant_of_shape(node: Node) -> Compute:
    given = node.get("value")
    value = np.zeros(1, np.float32) if given is None else numpy_helper.to_array(given)
    return lambda arrays, shape: np.full(to_integers(shape), value.item(), value.dtype)


def build_depth_to_space(node: Node) -> Compute:
    size = node.get("blocksize")
    is_column_first = node.get("mode", "DCR") == "CRD"

    def rearrange(arrays: Arrays, x: Array) -> Array:
        rows, channels, height, width = x.shape
        rest = channels // size**2
        if is_column_first:
            blocks = x.reshape((rows, rest, size, size, height, width))
            blocks = arrays.permute(blocks, (0, 1, 4, 2, 5, 3))
        else:
            blocks = x.reshape((rows, size, size, rest, height, width))
            blocks = arrays.permute(blocks, (0, 3, 4, 1, 5, 2))
        return blocks.reshape((rows, rest, height * size, width * size))

    return rearrange


LAYOUT: dict[str, Builder] = {
    "ConstantOfShape": build_constant_of_shape,
    "DepthToSpace": build_depth_to_space,
    "Expand": build_expand,
    "Flatten": build_flatten,
    "Identity": lambda node: lambda arrays, x: x,
    "Reshape": build_reshape,
    "Shape": build_shape,
    "Squeeze": build_squeeze,
    "Transpose": build_transpose,
    "Unsqueeze": build_unsqueeze,
}
