"""Arithmetic of one, two or many arrays, with broadcasting."""

import functools
import operator
from collections.abc import Callable

import numpy as np

from compression.engine.training.engines.arrays import Array, Arrays
from compression.engine.training.operators.node import Builder, Compute, Node, simple


def divide(arrays: Arrays, x: Array, y: Array) -> Array:
    """Integers are divided towards zero."""
    return x / y if arrays.is_float(x) else arrays.divide_integers(x, y)


def fold(name: str) -> Builder:
    """The builder of an operator of any number of inputs."""
    return lambda node: lambda arrays, *inputs: functools.reduce(getattr(arrays.xp, name), inputs)


def mean(arrays: Arrays, *inputs: Array) -> Array:
    """The mean of arrays that are broadcast to one shape."""
    return functools.reduce(operator.add, inputs) / len(inputs)


def build_cast(node: Node) -> Compute:
    kind = CAST_TYPES.get(node.get("to"))
    if kind is None:
        raise node.refuse(f"data type {node.get('to')}")
    return lambda arrays, x: arrays.cast(x, kind)


def _infix(function: Callable[..., Array]) -> Builder:
    return lambda node: lambda arrays, *inputs: function(*inputs)


# By the numbers of onnx.TensorProto.DataType.
CAST_TYPES = {
    1: np.dtype("float32"),
    2: np.dtype("uint8"),
    3: np.dtype("int8"),
    5: np.dtype("int16"),
    6: np.dtype("int32"),
    7: np.dtype("int64"),
    9: np.dtype("bool"),
    11: np.dtype("float64"),
}

ARITHMETIC: dict[str, Builder] = {
    "Abs": simple("abs"),
    "Add": _infix(operator.add),
    "Cast": build_cast,
    "Cos": simple("cos"),
    "Div": lambda node: divide,
    "Equal": _infix(operator.eq),
    "Exp": simple("exp"),
    "Greater": _infix(operator.gt),
    "Less": _infix(operator.lt),
    "Log": simple("log"),
    "Max": fold("maximum"),
    "Mean": lambda node: mean,
    "Min": fold("minimum"),
    "Mul": _infix(operator.mul),
    "Neg": _infix(operator.neg),
    "Pow": simple("pow"),
    "Reciprocal": simple("reciprocal"),
    "Sin": simple("sin"),
    "Sqrt": simple("sqrt"),
    "Sub": _infix(operator.sub),
    "Sum": fold("add"),
    "Where": simple("where"),
}
