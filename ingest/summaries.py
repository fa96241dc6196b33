"""From bytes of a request to checked summaries, without trusting any of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from ingest.exceptions import BatchTooLargeError, MalformedBatchError
from ingest.records import LATE_LIMIT_SECONDS, Release, Text
from ingest.rules import bins
from ingest.rules.windows import WindowCounts
from registry.plain_text import is_storable

MOST_SUMMARIES = 500
_MOST = 10**12
"""Records of one window: a thousand billion, of which sums of squares stay finite."""
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
_Sum = Annotated[float, msgspec.Meta(ge=0)]
_Row = Annotated[list[_Count], msgspec.Meta(max_length=100_001)]


class Counts(msgspec.Struct):
    """What the device counted; the fields are those of `WindowCounts`."""

    n: Annotated[int, msgspec.Meta(ge=1, le=_MOST)]
    errors: _Count = 0
    nonfinite: _Count = 0
    latency_n: _Count = 0
    latency_sum: _Sum = 0.0
    latency_sum_squares: _Sum = 0.0
    confidence_n: _Count = 0
    confidence_sum: _Sum = 0.0
    confidence_sum_squares: _Sum = 0.0
    confidence: Annotated[list[_Count], msgspec.Meta(max_length=bins.CONFIDENCE_BINS)] = []
    classes: _Row = []
    latency: Annotated[dict[int, _Count], msgspec.Meta(max_length=1_000)] = {}
    features: Annotated[dict[Text, _Row], msgspec.Meta(max_length=64)] = {}


class Summary(msgspec.Struct):
    """One window of one release; unknown fields are ignored."""

    model_version: Text
    start: Annotated[int, msgspec.Meta(ge=0, le=10**11)]
    seconds: Annotated[int, msgspec.Meta(ge=1, le=31 * 86_400)]
    revision: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    counts: Counts
    model: Text | None = None
    baseline: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None


class _Body(msgspec.Struct):
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    summaries: list[msgspec.Raw]
    device_id: str | None = None


@dataclass(frozen=True)
class RawSummaries:
    """A decoded body: each summary, or why it is none."""

    device_id: str | None
    source: str
    summaries: list[Summary | str]


_BODY = msgspec.json.Decoder(_Body)
_SUMMARY = msgspec.json.Decoder(Summary)


def decode_summaries(body: bytes) -> RawSummaries:
    """The summaries in `body`, each decoded by itself.

    Raises:
        MalformedBatchError: no JSON, or not an object with `source` and a list `summaries`.
        BatchTooLargeError: more than `MOST_SUMMARIES` of them.
    """
    try:
        parsed = _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBatchError(f"Not summaries: {error}") from error
    if len(parsed.summaries) > MOST_SUMMARIES:
        raise BatchTooLargeError(
            f"{len(parsed.summaries)} summaries; at most {MOST_SUMMARIES} are taken."
        )
    if not is_storable(parsed.source) or not is_storable(parsed.device_id or ""):
        raise MalformedBatchError("Not summaries: a text holds U+0000 or a lone surrogate.")
    return RawSummaries(parsed.device_id, parsed.source, [_read(item) for item in parsed.summaries])


def _read(raw: msgspec.Raw) -> Summary | str:
    try:
        return _SUMMARY.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)[:200]


def find_problem(
    summary: Summary, release: Release | None, seconds: int, received_at: float
) -> str:
    """Why a summary cannot be counted; empty when it can.

    Args:
        seconds: length of a window here.
        received_at: Unix seconds of the server's clock.
    """
    counts = summary.counts
    if release is None:
        model = f" of model {summary.model}" if summary.model else ""
        return f"model_version {summary.model_version!r}{model} is not known for this device"
    if summary.seconds != seconds or summary.start % seconds:
        return f"start {summary.start}, seconds {summary.seconds}: windows here have {seconds}"
    if summary.start + seconds < received_at - LATE_LIMIT_SECONDS:
        return "the window is more than 7 days old"
    if counts.errors > counts.n or counts.nonfinite > counts.errors:
        return f"{counts.nonfinite} non-finite of {counts.errors} errors of {counts.n} records"
    if counts.latency_n > counts.n - counts.errors or counts.confidence_n > counts.latency_n:
        return f"{counts.latency_n} latencies, {counts.confidence_n} confidences of {counts.n}"
    if sum(counts.latency.values()) != counts.latency_n:
        return f"latency has {sum(counts.latency.values())} in bins; latency_n {counts.latency_n}"
    if any(not bins.LATENCY_MIN_BIN <= at <= bins.LATENCY_MAX_BIN for at in counts.latency):
        return f"latency bins run from {bins.LATENCY_MIN_BIN} to {bins.LATENCY_MAX_BIN}"
    if sum(counts.confidence) != counts.confidence_n:
        return f"confidence has {sum(counts.confidence)} in bins; not {counts.confidence_n}"
    if len(counts.classes) > release.labels + 1 or sum(counts.classes) > counts.latency_n:
        return f"classes: at most {release.labels + 1}, of {counts.latency_n} records"
    if not release.has_classes and (any(counts.classes) or counts.confidence_n):
        return "classes or confidences are given; the outputs of this release are no classes"
    if any(sum(row) > counts.latency_n for row in counts.features.values()):
        return f"a feature has more than {counts.latency_n} values"
    return _find_odd_sum(counts)


def _find_odd_sum(counts: Counts) -> str:
    """A sum that its bins cannot have."""
    most = counts.latency_n * bins.LATENCY_MAX_MS
    rounding = 1 + 1e-6
    for name, value, limit in (
        ("latency_sum", counts.latency_sum, most),
        ("latency_sum_squares", counts.latency_sum_squares, most * bins.LATENCY_MAX_MS),
        ("confidence_sum", counts.confidence_sum, counts.confidence_n),
        ("confidence_sum_squares", counts.confidence_sum_squares, counts.confidence_n),
    ):
        if not (math.isfinite(value) and value <= limit * rounding):
            return f"{name} is {value}; expected at most {limit:g}"
    return ""


def to_window_counts(summary: Summary, labels: int, baseline: str | None = None) -> WindowCounts:
    """What the summary adds to its window.

    Features keep the digest of the baseline whose edges they were counted by, as those counted
    here do, so that counts by other edges never mix; without one they are left out.

    Args:
        baseline: digest of another baseline with the same edges, which stands for the device's.
    """
    counts = summary.counts
    plain: dict[str, Any] = msgspec.structs.asdict(counts)
    digest = baseline or summary.baseline
    suffix = f"@{digest[:12]}" if digest else ""
    plain["features"] = (
        {name + suffix: row for name, row in counts.features.items()} if suffix else {}
    )
    if counts.classes:
        plain["classes"] = counts.classes + [0] * (labels + 1 - len(counts.classes))
    return WindowCounts(**plain)
