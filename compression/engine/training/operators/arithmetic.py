"""Arithmetic of one, two or many tensors, with broadcasting."""

import functools

import torch
from torch import Tensor

from compression.engine.training.operators.activations import simple
from compression.engine.training.operators.node import Builder, Compute, Node


def divide(x: Tensor, y: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def fold(function: Compute) -> Compute:
    """The operator of any number of inputs."""
    return lambda *inputs: functools.reduce(function, inputs)


def mean(*inputs: Tensor) -> Tensor:
    """The mean of tensors that are broadcast to one shape."""
    return fold(torch.add)(*inputs) / len(inputs)


def build_cast(node: Node) -> Compute:
    kind = CAST_TYPES.get(node.get("to"))
    if kind is None:
        raise node.refuse(f"data type {node.get('to')}")
    return lambda x: x.to(kind)


# By the numbers of onnx.TensorProto.DataType.
CAST_TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    11: torch.float64,
}

ARITHMETIC: dict[str, Builder] = {
    "Abs": simple(torch.abs),
    "Add": simple(torch.add),
    "Cast": build_cast,
    "Cos": simple(torch.cos),
    "Div": simple(divide),
    "Equal": simple(torch.eq),
    "Exp": simple(torch.exp),
    "Greater": simple(torch.gt),
    "Less": simple(torch.lt),
    "Log": simple(torch.log),
    "Max": simple(fold(torch.maximum)),
    "Mean": simple(mean),
    "Min": simple(fold(torch.minimum)),
    "Mul": simple(torch.mul),
    "Neg": simple(torch.neg),
    "Pow": simple(torch.pow),
    "Reciprocal": simple(torch.reciprocal),
    "Sin": simple(torch.sin),
    "Sqrt": simple(torch.sqrt),
    "Sub": simple(torch.sub),
    "Sum": simple(fold(torch.add)),
    "Where": simple(torch.where),
}
