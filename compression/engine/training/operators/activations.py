"""Activations."""

import torch
import torch.nn.functional as F
from torch import Tensor

from compression.engine.training.operators.node import Builder, Compute, Node


def build_clip(node: Node) -> Compute:
    fixed_low, fixed_high = node.get("min"), node.get("max")

    def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        return torch.clamp(
            x,
            fixed_low if low is None else low.item(),
            fixed_high if high is None else high.item(),
        )

    return clip


def build_leaky_relu(node: Node) -> Compute:
    slope = node.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, slope)


def build_prelu(node: Node) -> Compute:
    # The slope broadcasts as in arithmetic, unlike that of F.prelu.
    return lambda x, slope: torch.where(x < 0, x * slope, x)


def build_elu(node: Node) -> Compute:
    alpha = node.get("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


def build_hard_sigmoid(node: Node) -> Compute:
    slope, offset = node.get("alpha", 0.2), node.get("beta", 0.5)
    return lambda x: torch.clamp(slope * x + offset, 0.0, 1.0)


def build_gelu(node: Node) -> Compute:
    approximate = node.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


def build_softmax(node: Node) -> Compute:
    return _over_axis(node, F.softmax)


def build_log_softmax(node: Node) -> Compute:
    return _over_axis(node, F.log_softmax)


def _over_axis(node: Node, function: Compute) -> Compute:
    if node.opset >= 13:
        axis = node.get("axis", -1)
        return lambda x: function(x, axis)
    first = node.get("axis", 1)

    # Before operator set 13 all axes from the given one on were taken together.
    def flattened(x: Tensor) -> Tensor:
        return function(x.flatten(first % x.ndim), -1).reshape(x.shape)

    return flattened


def simple(function: Compute) -> Builder:
    """The builder of an operator without attributes."""
    return lambda node: function


ACTIVATIONS: dict[str, Builder] = {
    "Clip": build_clip,
    "Elu": build_elu,
    "Erf": simple(torch.erf),
    "Gelu": build_gelu,
    "HardSigmoid": build_hard_sigmoid,
    "HardSwish": simple(F.hardswish),
    "LeakyRelu": build_leaky_relu,
    "LogSoftmax": build_log_softmax,
    "Mish": simple(F.mish),
    "PRelu": build_prelu,
    "Relu": simple(F.relu),
    "Sigmoid": simple(torch.sigmoid),
    "Softmax": build_softmax,
    "Softplus": simple(F.softplus),
    "Tanh": simple(torch.tanh),
}
