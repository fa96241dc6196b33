"""What a newer count adds to an older one of the same window."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ingest.rules.windows import WindowCounts, merge_counts


def difference(newer: WindowCounts, older: WindowCounts) -> WindowCounts:
    """Counts that, added to `older`, make `newer`; some may be below zero."""
    return merge_counts(newer, _negated(older))


def _negated(counts: WindowCounts) -> WindowCounts:
    return WindowCounts(
        **{item.name: _minus(getattr(counts, item.name)) for item in fields(counts)}
    )


def _minus(value: Any) -> Any:
    if isinstance(value, list):
        return [_minus(item) for item in value]
    if isinstance(value, dict):
        return {key: _minus(item) for key, item in value.items()}
    return -value
