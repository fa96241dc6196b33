"""Normalization by running, layer or instance statistics."""

import torch.nn.functional as F
from torch import Tensor

from compression.engine.training.operators.node import Builder, Compute, Node

EPSILON = 1e-5


def build_batch_norm(node: Node) -> Compute:
    """By the stored statistics; the executor's training mode uses the batch's instead."""
    if node.outputs > 1:
        raise node.refuse("more than one output")
    epsilon = node.get("epsilon", EPSILON)
    # ONNX: running = running * momentum + batch * (1 - momentum); PyTorch counts the other way.
    share = 1.0 - node.get("momentum", 0.9)

    def normalize(
        x: Tensor,
        scale: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        *,
        follows_batch: bool = False,
    ) -> Tensor:
        return F.batch_norm(x, mean, variance, scale, bias, follows_batch, share, epsilon)

    return normalize


def build_layer_norm(node: Node) -> Compute:
    if node.outputs > 1:
        raise node.refuse("more than one output")
    axis, epsilon = node.get("axis", -1), node.get("epsilon", EPSILON)

    def normalize(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = list(x.shape[axis % x.ndim :])
        normal = F.layer_norm(x, shape, None, None, epsilon) * scale
        return normal if bias is None else normal + bias

    return normalize


def build_instance_norm(node: Node) -> Compute:
    epsilon = node.get("epsilon", EPSILON)
    return lambda x, scale, bias: F.instance_norm(x, None, None, scale, bias, eps=epsilon)


def build_dropout(node: Node) -> Compute:
    """Nothing happens: the graph is one for inference."""
    if node.outputs > 1:
        raise node.refuse("a mask output")
    return lambda x, *_: x


NORMALIZATION: dict[str, Builder] = {
    "BatchNormalization": build_batch_norm,
    "Dropout": build_dropout,
    "InstanceNormalization": build_instance_norm,
    "LayerNormalization": build_layer_norm,
}
