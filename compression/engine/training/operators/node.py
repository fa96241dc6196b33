"""One node of a graph as its builder sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from compression.exceptions import ModelUnsupportedError

Compute = Callable[..., Any]


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


def to_integers(values: Tensor) -> list[int]:
    """The numbers of an integer tensor of one axis, or of a single one."""
    return [int(value) for value in values.reshape(-1).tolist()]
