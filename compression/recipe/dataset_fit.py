"""Whether a data set feeds a model, decided from what the registry wrote down of both. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compression.recipe.facts import TensorFacts
from registry.validation.arrays import input_names


def find_misfit(arrays: Mapping[str, Any], inputs: Sequence[TensorFacts]) -> str | None:
    """What is in the way, with expected and found; None when the set fits.

    Args:
        arrays: name to `{"dtype", "shape"}`, as a data set describes itself.
        inputs: the inputs of the model. A lone input takes the array of its name, or `x`.
    """
    for item in inputs:
        name = "x" if len(inputs) == 1 and item.name not in arrays else item.name
        if name not in arrays:
            found = ", ".join(input_names(arrays)) or "none"
            wanted = f"'x' or {item.name!r}" if len(inputs) == 1 else repr(item.name)
            return f"expected an array {wanted} for the model's input, found {found}."
        found_shape, shape = arrays[name]["shape"], item.shape or ()
        fits = len(found_shape) == len(shape) and all(
            want is None or want == have
            for want, have in zip(shape[1:], found_shape[1:], strict=True)
        )
        if not fits:
            return (
                f"{name!r} has rows of shape {_describe(found_shape[1:])}; the input {item.name!r} "
                f"wants {_describe(shape[1:])}."
            )
        if not np.can_cast(np.dtype(arrays[name]["dtype"]), np.dtype(item.dtype), "same_kind"):
            return (
                f"{name!r} is {arrays[name]['dtype']}; the input {item.name!r} wants {item.dtype}."
            )
    return None


def _describe(dimensions: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in dimensions) + "]"
