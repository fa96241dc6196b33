"""Golden vectors: outputs of any kind as arrays that need no pickle, and their comparison."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .scores import Array


def to_array(output: Any) -> Array | None:
    """An output as numbers or texts; None for a kind that cannot be compared.

    A sequence of maps becomes one row a map, its values in the order of the sorted keys.
    """
    if isinstance(output, list) and output and all(isinstance(row, Mapping) for row in output):
        keys = sorted(output[0])
        if any(sorted(row) != keys for row in output):
            return None
        return np.array([[row[key] for key in keys] for row in output], dtype=np.float32)
    if not isinstance(output, np.ndarray):
        return None
    if output.dtype.kind in "OUS":
        return output.astype(str)
    return output if output.dtype.kind in "fiub" else None


def to_input(values: Array) -> Array:
    """A stored input as the runtime takes it: texts are objects to it."""
    return values.astype(object) if values.dtype.kind in "US" else values


def mark_close(want: Array, got: Array, atol: float, rtol: float) -> Array:
    """Which elements agree: texts when equal, numbers within `atol + rtol * |want|`."""
    if want.dtype.kind in "OUS" or got.dtype.kind in "OUS":
        return np.asarray(want.astype(str) == got.astype(str))
    bound = atol + rtol * np.abs(want.astype(np.float64))
    return np.asarray(np.abs(got.astype(np.float64) - want) <= bound)
