"""What is recorded of an input: two numbers that drift shows in."""

from collections.abc import Iterable

import numpy as np

from .contract import Contract
from .scores import Array

INPUT_FEATURES = ("input_mean", "input_std")


def choose_described(contract: Contract, names: Iterable[str]) -> str:
    """The input that is described: the first of `names`, the graph's in order, that has rows."""
    named = list(names)
    axes = contract.input_batch_axes
    return next((name for name in named if axes.get(name, 0) is not None), named[0])


def describe_rows(values: Array) -> Array:
    """Mean and population deviation of each row, float64 of shape (rows, 2).

    Args:
        values: rows first; of texts their lengths count.
    """
    if values.dtype.kind in "OUS":
        flat = values.reshape(len(values), -1)
        lengths = [[len(str(text)) for text in row] for row in flat.tolist()]
        numbers = np.asarray(lengths, dtype=np.float64).reshape(len(values), -1)
    else:
        numbers = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    return np.stack([numbers.mean(axis=1), numbers.std(axis=1)], axis=1)
