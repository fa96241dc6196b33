"""A look at all records of a batch at once, that sees whether each of them is to be kept.

It rejects nothing by itself: where anything is out of the ordinary, the records are checked one by
one by the rules of `ingest.records`, which alone reject. A test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ingest.columns import COUNTED, NO_CLASS, RESTAMPED, TOO_OLD, Columns, ReleaseKey, make_columns
from registry.plain_text import is_storable

if TYPE_CHECKING:
    from ingest.records import Release


@dataclass(frozen=True)
class Limits:
    """The ranges of `ingest.records`, and its reader of times."""

    latency_max_ms: float
    max_class_id: int
    max_feature: float
    future_slack_seconds: float
    late_limit_seconds: float
    parse_time: Callable[[str | float], float | None]


def screen_records(
    fields: Mapping[str, Sequence[Any]],
    releases: Mapping[tuple[str | None, str], Release],
    received_at: float,
    limits: Limits,
) -> Columns | None:
    """The columns of records when every one of them is to be kept; else None.

    Args:
        fields: of `ingest.records.Record` by name, decoded from strict JSON: all numbers are
            finite.
        releases, received_at: see `ingest.records.check_batch`.
    """
    names = list(zip(fields["model"], fields["model_version"], strict=True))
    # The sign of none is no class that a record may name.
    if not names or NO_CLASS in fields["class_id"] or not _are_texts_good(fields):
        return None
    found: dict[tuple[str | None, str], Release] = {}
    for name in set(names):
        release = releases.get(name)
        if release is None:
            return None
        found[name] = release
    times = _times_of(fields["timestamp"], limits.parse_time)
    if times is None:
        return None
    numbers: dict[ReleaseKey, int] = {}
    number_of = {name: numbers.setdefault(item.key, len(numbers)) for name, item in found.items()}
    is_ahead = times > received_at + limits.future_slack_seconds
    is_too_old = times < received_at - limits.late_limit_seconds
    columns = make_columns(
        fields,
        list(numbers),
        np.array([number_of[name] for name in names], np.int64)
        if len(numbers) > 1
        else np.zeros(len(names), np.int64),
        np.where(is_ahead, received_at, times),
        RESTAMPED * is_ahead.astype(np.uint8)
        | TOO_OLD * is_too_old.astype(np.uint8)
        | COUNTED * np.array(fields["is_counted"], np.uint8),
    )
    declared = list({item.key: item for item in found.values()}.values())
    has_features = np.array([row is not None for row in fields["features"]])
    return columns if _is_ordinary(columns, declared, has_features, limits) else None


def _are_texts_good(fields: Mapping[str, Sequence[Any]]) -> bool:
    """Whether all kept texts that no release vouches for can be stored, and no id is repeated."""
    texts = {text for name in ("provider", "error", "request_hash") for text in set(fields[name])}
    ids = [value for value in fields["record_id"] if value is not None]
    texts.update(value for value in ids if isinstance(value, str))
    texts.discard(None)
    return len(set(ids)) == len(ids) and is_storable("".join(texts))


def _times_of(
    values: Sequence[str | float], parse_time: Callable[[str | float], float | None]
) -> NDArray[np.float64] | None:
    """Unix seconds of every record; None when one of them has no time."""
    if any(isinstance(value, str) for value in values):
        parsed = [parse_time(value) for value in values]
        return None if None in parsed else np.array(parsed, np.float64)
    try:
        times = np.array(values, np.float64)
    except OverflowError:
        return None
    return times if bool(((times >= 0) & (times < 1e11)).all()) else None


def _is_ordinary(
    columns: Columns,
    declared: Sequence[Release],
    has_features: NDArray[np.bool_],
    limits: Limits,
) -> bool:
    """Whether every value is in its range.

    Args:
        declared: the releases, in the order of the columns'.
        has_features: where a record brings a list, be it empty.
    """
    latency, confidence, classes = columns.latency_ms, columns.confidence, columns.class_id
    is_failed = columns.error > 0
    has_none = np.isnan(confidence)
    labels = np.array([key[3] or limits.max_class_id + 1 for key in columns.releases])
    is_good = (latency >= 0) & (latency <= limits.latency_max_ms)
    has_classes = np.array([item.has_classes for item in declared])[columns.release]
    has_scores = np.array([item.has_confidence for item in declared])[columns.release]
    is_none = has_none & (classes == NO_CLASS)
    is_sure = ((confidence >= 0) & (confidence <= 1)) | (has_none & (is_failed | ~has_scores))
    is_known = ((classes >= 0) & (classes < labels[columns.release])) | (
        (classes == NO_CLASS) & is_failed
    )
    is_good &= np.where(has_classes, is_sure & is_known, is_none)
    width = np.array([-1 if item.features is None else item.features for item in declared])[
        columns.release
    ]
    is_good &= ~has_features | (width == -1) | (columns.widths == width)
    return bool(is_good.all()) and bool((np.abs(columns.features) <= limits.max_feature).all())
