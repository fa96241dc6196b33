"""One node of a graph as its builder sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compression.engine.training.engines.arrays import Array
from compression.exceptions import ModelUnsupportedError

Compute = Callable[..., Any]
"""Takes the arrays' library first, then the node's inputs in order."""


@dataclass(frozen=True)
class Node:
    """Operator, attributes and the version of the operator set the graph was written for."""

    operator: str
    name: str
    attributes: dict[str, Any]
    opset: int
    outputs: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, text decoded, or the default."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def refuse(self, what: str) -> ModelUnsupportedError:
        """The error for a form of the operator that cannot be trained through."""
        return ModelUnsupportedError(
            f"Training does not support {self.operator} with {what} (node {self.name!r})."
        )


Builder = Callable[[Node], Compute]


def to_integers(values: Array) -> list[int]:
    """The numbers of an integer array of one axis, or of a single one.

    Raises:
        ModelUnsupportedError: they depend on what the model is fed with.
    """
    if not isinstance(values, np.ndarray):
        raise ModelUnsupportedError(
            "Training does not support shapes, axes or places that are computed from the input."
        )
    return [int(value) for value in values.reshape(-1)]


def simple(name: str) -> Builder:
    """The builder of an operator without attributes that is one function of the library."""
    return lambda node: lambda arrays, *inputs: getattr(arrays.xp, name)(*inputs)
