"""Counts of one window, merged by addition: order and grouping of merges do not matter."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import add
from typing import Any

NON_FINITE = "non_finite"


@dataclass
class WindowCounts:
    """What happened in a window. Every field is a sum, so that two windows merge by addition."""

    n: int = 0
    errors: int = 0
    nonfinite: int = 0
    restamped: int = 0
    latency_n: int = 0
    latency_sum: float = 0.0
    latency_sum_squares: float = 0.0
    confidence_n: int = 0
    confidence_sum: float = 0.0
    confidence_sum_squares: float = 0.0
    confidence: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    latency: dict[int, int] = field(default_factory=dict)
    features: dict[str, list[int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON column; latency bins become text keys."""
        value = dict(self.__dict__)
        value["latency"] = {str(key): count for key, count in self.latency.items()}
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "WindowCounts":
        """The counts that `to_json` made `value` from; absent fields are zero."""
        fields = {key: value[key] for key in cls.__dataclass_fields__ if key in value}
        counts = cls(**fields)
        counts.latency = {int(key): count for key, count in counts.latency.items()}
        return counts


_SUMS = tuple(
    item.name for item in fields(WindowCounts) if item.type in ("int", "float", int, float)
)


def add_lists(a: list[int], b: list[int]) -> list[int]:
    """Entry-wise sum; the shorter list counts as zero beyond its end."""
    if len(a) < len(b):
        a, b = b, a
    return [*map(add, a, b), *a[len(b) :]]


def merge_counts(a: WindowCounts, b: WindowCounts) -> WindowCounts:
    """The counts of both windows together."""
    merged = WindowCounts()
    for name in WindowCounts.__dataclass_fields__:
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, list):
            value: Any = add_lists(left, right)
        elif name == "latency":
            value = {key: left.get(key, 0) + right.get(key, 0) for key in left.keys() | right}
        elif name == "features":
            value = {
                key: add_lists(left.get(key, []), right.get(key, [])) for key in left.keys() | right
            }
        else:
            value = left + right
        setattr(merged, name, value)
    return merged


def sum_counts(parts: Iterable[WindowCounts]) -> WindowCounts:
    """All `parts` together; empty counts for none."""
    total = WindowCounts()
    for part in parts:
        _add_in_place(total, part)
    return total


def _add_in_place(total: WindowCounts, part: WindowCounts) -> None:
    """As `merge_counts`, without a new object per window: a judgement adds up thousands."""
    for name in _SUMS:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    total.confidence = add_lists(total.confidence, part.confidence)
    total.classes = add_lists(total.classes, part.classes)
    for index, count in part.latency.items():
        total.latency[index] = total.latency.get(index, 0) + count
    for key, counts in part.features.items():
        total.features[key] = add_lists(total.features.get(key, []), counts)


def window_start(at: float, seconds: int) -> int:
    """Unix seconds at which the window of length `seconds` that holds `at` starts."""
    return int(at // seconds) * seconds
