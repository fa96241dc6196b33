"""Shapes: the same numbers, arranged otherwise."""

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor

from compression.engine.training.operators.activations import simple
from compression.engine.training.operators.node import Builder, Compute, Node, to_integers


def build_flatten(node: Node) -> Compute:
    axis = node.get("axis", 1)

    def flatten(x: Tensor) -> Tensor:
        first = axis % x.ndim if axis < 0 else axis
        rows = 1
        for length in x.shape[:first]:
            rows *= length
        return x.reshape(rows, -1)

    return flatten


def build_reshape(node: Node) -> Compute:
    keeps_zero = bool(node.get("allowzero", 0))

    def reshape(x: Tensor, shape: Tensor) -> Tensor:
        wanted = to_integers(shape)
        if not keeps_zero:
            wanted = [x.shape[axis] if n == 0 else n for axis, n in enumerate(wanted)]
        return x.reshape(wanted)

    return reshape


def build_transpose(node: Node) -> Compute:
    order = node.get("perm")
    return lambda x: x.permute(order or list(reversed(range(x.ndim))))


def build_squeeze(node: Node) -> Compute:
    fixed = node.get("axes")

    def squeeze(x: Tensor, given: Tensor | None = None) -> Tensor:
        axes = fixed if given is None else to_integers(given)
        return x.squeeze() if not axes else x.squeeze(tuple(axes))

    return squeeze


def build_unsqueeze(node: Node) -> Compute:
    fixed = node.get("axes")

    def unsqueeze(x: Tensor, given: Tensor | None = None) -> Tensor:
        axes = fixed if given is None else to_integers(given)
        rank = x.ndim + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return unsqueeze


def build_shape(node: Node) -> Compute:
    start, end = node.get("start", 0), node.get("end")
    return lambda x: torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def build_expand(node: Node) -> Compute:
    def expand(x: Tensor, shape: Tensor) -> Tensor:
        return x.expand(torch.broadcast_shapes(x.shape, tuple(to_integers(shape))))

    return expand


def build_constant_of_shape(node: Node) -> Compute:
    given = node.get("value")
    array = np.zeros(1, np.float32) if given is None else numpy_helper.to_array(given)
    value = torch.from_numpy(np.array(array))
    return lambda shape: value.expand(to_integers(shape)).clone()


def build_depth_to_space(node: Node) -> Compute:
    size, mode = node.get("blocksize"), node.get("mode", "DCR")

    def rearrange(x: Tensor) -> Tensor:
        rows, channels, height, width = x.shape
        if mode == "CRD":
            return torch.pixel_shuffle(x, size)
        blocks = x.reshape(rows, size, size, channels // size**2, height, width)
        return blocks.permute(0, 3, 4, 1, 5, 2).reshape(rows, -1, height * size, width * size)

    return rearrange


LAYOUT: dict[str, Builder] = {
    "ConstantOfShape": build_constant_of_shape,
    "DepthToSpace": build_depth_to_space,
    "Expand": build_expand,
    "Flatten": build_flatten,
    "Identity": simple(lambda x: x),
    "Reshape": build_reshape,
    "Shape": build_shape,
    "Squeeze": build_squeeze,
    "Transpose": build_transpose,
    "Unsqueeze": build_unsqueeze,
}
