"""Two versions side by side; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ComparedRow:
    """One field of both versions; None where a side has no such field."""

    field: str
    left: Any
    right: Any

    @property
    def is_equal(self) -> bool:
        """True when both sides say the same."""
        return bool(self.left == self.right)


def compare_versions(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[ComparedRow]:
    """Every field of either side, nested ones under dotted names, in order of name."""
    flat_left, flat_right = flatten(left), flatten(right)
    return [
        ComparedRow(field, flat_left.get(field), flat_right.get(field))
        for field in sorted({*flat_left, *flat_right})
    ]


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with names joined by ` / `; lists stay whole."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            result.update(flatten(item, f"{name} / "))
        else:
            result[name] = item
    return result
