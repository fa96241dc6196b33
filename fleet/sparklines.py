"""Small drawings of numbers that devices report, and the numbers themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def sparkline(
    values: Sequence[float], *, width: int = 90, height: int = 20, top: float | None = None
) -> str:
    """Points of an SVG polyline; from 0 to `top`, else over the values' own range; empty below
    two values."""
    if len(values) < 2:
        return ""
    low, high = (0.0, max(top, max(values))) if top is not None else (min(values), max(values))
    span = (high - low) or 1.0
    step = width / (len(values) - 1)
    return " ".join(
        f"{index * step:.1f},{height - 2 - (value - low) / span * (height - 4):.1f}"
        for index, value in enumerate(values)
    )


def read_number(values: Mapping[str, Any], name: str) -> float | None:
    """The entry `name` as a number; None when it is absent or anything else."""
    value = values.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value is not None else None
