"""From bytes of a request to checked records, without trusting any of them.

Inflation is bounded while it happens: a small body that would inflate to gigabytes stops at the
limit. A record that breaks a rule is rejected alone, with its index and a reason; the rest is kept.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import msgspec

from ingest.columns import COUNTED, RESTAMPED, TOO_OLD, Columns, ReleaseKey, make_columns, zstd
from ingest.exceptions import BatchTooLargeError, MalformedBatchError, UnsupportedEncodingError
from ingest.rules.bins import LATENCY_MAX_MS
from ingest.screening import Limits, screen_records
from registry.plain_text import is_storable, make_storable

FUTURE_SLACK_SECONDS = 600
LATE_LIMIT_SECONDS = 7 * 86_400
_CHUNK_BYTES = 64 * 1024

MAX_REPLACED = 64
"""Ids that one batch may replace: a batch of 5,000 is halved 13 times until one record is left."""

MAX_FEATURE = 3.4028234663852886e38
"""The largest number of 32 bits: inputs are no larger, and sums of squares of it stay finite."""
MAX_CLASS_ID = 2**31 - 1
"""For a model without a label map; counted as "other"."""
RAW_CHARACTERS = 2000
"""Kept of a rejected record."""
REASON_CHARACTERS = 200

Text = Annotated[str, msgspec.Meta(max_length=200)]
BatchId = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Replaced = Annotated[list[BatchId], msgspec.Meta(max_length=MAX_REPLACED)]
#: What the columns, the database and a device's counter can hold.
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


# Thousands are made for each call and none is part of a cycle: the collector need not look at them.
class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """One inference as the device reports it; unknown fields are ignored."""

    timestamp: str | float
    latency_ms: float
    model_version: Text
    confidence: float | None = None
    class_id: _Int64 | None = None
    model: Text | None = None
    request_hash: Text | None = None
    record_id: Text | _Int64 | None = None
    seq: _Int64 | None = None
    provider: Text | None = None
    features: Annotated[list[float], msgspec.Meta(max_length=64)] | None = None
    error: Text | None = None
    is_counted: bool = False
    """A sample of what a summary of the device counts: it is kept, and counted in no window."""


class _Head(msgspec.Struct):
    device_id: str | None = None
    batch_id: BatchId | None = None
    replaces: _Replaced | None = None


class _Body(_Head, kw_only=True):
    """Of which every record is one."""

    records: list[Record]


class _OddBody(_Head, kw_only=True):
    """Of which some record is none: each is decoded by itself."""

    records: list[msgspec.Raw]


@dataclass(frozen=True)
class Unread:
    """What came in a record's place."""

    reason: str
    raw: Any


@dataclass(frozen=True)
class RawBatch:
    """A decoded body.

    Attributes:
        replaces: ids under which the device has sent these records before, without an answer to
            rely on.
        is_whole: JSON by the letter in which each record is one, so that every number is finite.
    """

    device_id: str | None
    batch_id: str
    records: Sequence[Record | Unread]
    replaces: tuple[str, ...] = ()
    is_whole: bool = False


@dataclass(frozen=True)
class Release:
    """What a record of one version is checked against."""

    model: str
    version: str
    version_id: int
    variant_id: int | None
    model_id: int
    labels: int
    """Entries of the label map; 0 when the model has none."""
    features: int | None
    """Width of `features` that the baseline declares; None when there is no baseline."""
    has_classes: bool = True
    """False: its outputs are read as no class, so that a record has none."""
    has_confidence: bool = True

    @property
    def key(self) -> ReleaseKey:
        """What the columns keep of it."""
        return self.version_id, self.variant_id, self.model_id, self.labels


@dataclass
class CheckedBatch:
    """The outcome of checking a batch: the usable records in columns, and index, reason and text
    of each other one."""

    columns: Columns
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    duplicates: int = 0


def inflate(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The plain bytes of `body`.

    Raises:
        BatchTooLargeError: more than `max_bytes`, before or after inflation.
        UnsupportedEncodingError: `encoding` is none of "", "identity", "gzip" and "zstd".
        MalformedBatchError: the body is not what its encoding says, or is cut short.
    """
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding == "gzip":
        inflater: Any = zlib.decompressobj(wbits=31)
    elif encoding == "zstd":
        inflater = zstd.ZstdDecompressor()
    else:
        raise UnsupportedEncodingError(f"Content-Encoding {encoding!r}; expected gzip or zstd.")
    parts: list[bytes] = []
    size = 0
    pending = body
    try:
        while not inflater.eof:
            if encoding == "gzip":
                part = inflater.decompress(pending, _CHUNK_BYTES)
                pending = inflater.unconsumed_tail
            else:
                part = inflater.decompress(pending, max_length=_CHUNK_BYTES)
                pending = b""
            size += len(part)
            if size > max_bytes:
                raise _too_large(max_bytes)
            parts.append(part)
            if not part and not pending and not inflater.eof:
                raise MalformedBatchError(f"The {encoding} body ends too early.")
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise MalformedBatchError(f"The body is not {encoding}: {error}") from error
    if inflater.unused_data:
        raise MalformedBatchError(f"Bytes follow the end of the {encoding} body.")
    return b"".join(parts)


def _too_large(max_bytes: int) -> BatchTooLargeError:
    return BatchTooLargeError(f"The batch is larger than {max_bytes} bytes.")


def decode_batch(body: bytes, max_records: int) -> RawBatch:
    """The batch in `body`; its id is the digest of the bytes where it names none.

    A body that only Python's lenient parser takes (`NaN`, `Infinity`, numbers out of range) is
    still read, so that one such number costs one record and not the batch.

    Raises:
        MalformedBatchError: not JSON, or not an object with a list `records`.
        BatchTooLargeError: more than `max_records` records.
    """
    is_whole = False
    records: Sequence[Record | Unread]
    try:
        parsed: _Head = _BODY.decode(body)
        records, is_whole = parsed.records, True  # type: ignore[attr-defined]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            parsed = _ODD_BODY.decode(body)
            records = [_record_of_raw(item) for item in parsed.records]  # type: ignore[attr-defined]
        except msgspec.ValidationError as error:
            raise MalformedBatchError(f"Not a batch: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            parsed, items = _decode_leniently(body)
            records = [_record_of_value(item) for item in items]
    if len(records) > max_records:
        raise BatchTooLargeError(f"{len(records)} records; at most {max_records} are taken.")
    replaces = tuple(parsed.replaces or ())
    if not all(map(is_storable, (parsed.device_id or "", parsed.batch_id or "", *replaces))):
        raise MalformedBatchError(
            "Not a batch: an id holds U+0000 or a lone surrogate, which no database keeps."
        )
    batch_id = parsed.batch_id or hashlib.sha256(body).hexdigest()
    return RawBatch(parsed.device_id, batch_id, records, replaces, is_whole)


def _decode_leniently(body: bytes) -> tuple[_Head, list[Any]]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedBatchError(f"The body is not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("records"), list):
        raise MalformedBatchError("Not a batch: expected an object with a list `records`.")
    device_id, batch_id = value.get("device_id"), value.get("batch_id")
    for name, text in (("device_id", device_id), ("batch_id", batch_id)):
        if text is not None and not (isinstance(text, str) and 0 < len(text) <= 128):
            raise MalformedBatchError(f"Not a batch: `{name}` must be a text of 1 to 128.")
    try:
        replaces = msgspec.convert(value.get("replaces") or [], type=_Replaced)
    except msgspec.ValidationError as error:
        raise MalformedBatchError(f"Not a batch: `replaces`: {error}") from error
    return _Head(device_id, batch_id, replaces), value["records"]


def _record_of_raw(raw: msgspec.Raw) -> Record | Unread:
    try:
        return _RECORD.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Unread(str(error), bytes(raw)[:RAW_CHARACTERS].decode("utf-8", "replace"))


def _record_of_value(value: Any) -> Record | Unread:
    try:
        return msgspec.convert(value, type=Record)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        return Unread(str(error), repr(value))


def fields_of(records: Sequence[Record]) -> dict[str, tuple[Any, ...]]:
    """Each field's values, by its name."""
    names = Record.__struct_fields__
    values = zip(*map(msgspec.structs.astuple, records), strict=True)
    return dict(zip(names, values, strict=True)) if records else dict.fromkeys(names, ())


def parse_time(value: str | float) -> float | None:
    """Unix seconds of RFC 3339 text or of a number; None when it is neither, or before 1970."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.replace("z", "Z"))
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    else:
        seconds = float(value)
    return seconds if math.isfinite(seconds) and 0 <= seconds < 1e11 else None


def check_batch(
    batch: RawBatch, releases: Mapping[tuple[str | None, str], Release], received_at: float
) -> CheckedBatch:
    """Sorts the records of `batch` into accepted, rejected and repeated ones.

    Args:
        batch: what the device sent.
        releases: the release by (model slug or None, version or manifest digest).
        received_at: Unix seconds of the server's clock.
    """
    if batch.is_whole:
        fields = fields_of(cast(Sequence[Record], batch.records))
        columns = screen_records(fields, releases, received_at, _LIMITS)
        if columns is not None:
            return CheckedBatch(columns)
    kept: list[Record] = []
    numbers: dict[ReleaseKey, int] = {}
    release_of: list[int] = []
    times: list[float] = []
    flags: list[int] = []
    rejected: list[tuple[int, str, str]] = []
    duplicates = 0
    seen: set[str | int] = set()
    for index, record in enumerate(batch.records):
        if isinstance(record, Unread):
            rejected.append(_rejection(index, record.reason, record.raw))
            continue
        release = releases.get((record.model, record.model_version))
        problem = _problem(record, release)
        at = parse_time(record.timestamp)
        if not problem and at is None:
            problem = "timestamp is neither RFC 3339 text nor Unix seconds since 1970"
        if problem or release is None or at is None:
            rejected.append(_rejection(index, problem, repr(msgspec.to_builtins(record))))
            continue
        if record.record_id is not None:
            if record.record_id in seen:
                duplicates += 1
                continue
            seen.add(record.record_id)
        is_ahead = at > received_at + FUTURE_SLACK_SECONDS
        kept.append(record)
        release_of.append(numbers.setdefault(release.key, len(numbers)))
        times.append(received_at if is_ahead else at)
        is_old = at < received_at - LATE_LIMIT_SECONDS
        flags.append(RESTAMPED * is_ahead | TOO_OLD * is_old | COUNTED * record.is_counted)
    columns = make_columns(fields_of(kept), list(numbers), release_of, times, flags)
    return CheckedBatch(columns, rejected, duplicates)


def _rejection(index: int, reason: str, raw: Any) -> tuple[int, str, str]:
    """A rejected record as it can be kept: cut, and with what no text column holds escaped."""
    return (
        index,
        make_storable(reason)[:REASON_CHARACTERS],
        make_storable(str(raw)[:RAW_CHARACTERS])[:RAW_CHARACTERS],
    )


_TEXTS = (
    "timestamp", "model_version", "model", "request_hash", "record_id", "provider", "error",
)  # fmt: skip


def _problem(record: Record, release: Release | None) -> str:
    """Why the record cannot be used; empty when it can.

    Whatever is added up has a range in which sums of squares of any number of records stay finite.
    """
    for name in _TEXTS:
        text = getattr(record, name)
        if isinstance(text, str) and not is_storable(text):
            return f"{name} holds U+0000 or a lone surrogate"
    if release is None:
        model = f" of model {record.model}" if record.model else ""
        return f"model_version {record.model_version!r}{model} is not known for this device"
    if not 0 <= record.latency_ms <= LATENCY_MAX_MS:
        return f"latency_ms is {record.latency_ms}; expected 0 to {LATENCY_MAX_MS:.0f} (a day)"
    problem = _problem_of_answer(record, release)
    if problem:
        return problem
    if record.features is not None:
        if not all(abs(value) <= MAX_FEATURE for value in record.features):
            return f"features holds a number that is not finite or beyond ±{MAX_FEATURE:.3g}"
        if release.features is not None and len(record.features) != release.features:
            return f"features has {len(record.features)} values; expected {release.features}"
    return ""


def _problem_of_answer(record: Record, release: Release) -> str:
    """What is wrong with class and confidence; a failed inference may have neither."""
    has_error = bool(record.error)
    if not release.has_classes:
        for name in ("class_id", "confidence"):
            if getattr(record, name) is not None:
                return f"{name} is given; the outputs of this release are no classes"
        return ""
    if record.confidence is None:
        if not has_error and release.has_confidence:
            return "confidence is absent and no error is given"
    elif not (math.isfinite(record.confidence) and 0 <= record.confidence <= 1):
        return f"confidence is {record.confidence}; expected 0 to 1"
    if record.class_id is None:
        if not has_error:
            return "class_id is absent and no error is given"
    elif record.class_id < 0 or (release.labels and record.class_id >= release.labels):
        return f"class_id is {record.class_id}; the label map has {release.labels} entries"
    elif record.class_id > MAX_CLASS_ID:
        return f"class_id is {record.class_id}; expected at most {MAX_CLASS_ID}"
    return ""


_BODY = msgspec.json.Decoder(_Body)
_ODD_BODY = msgspec.json.Decoder(_OddBody)
_RECORD = msgspec.json.Decoder(Record)
_LIMITS = Limits(
    latency_max_ms=LATENCY_MAX_MS,
    max_class_id=MAX_CLASS_ID,
    max_feature=MAX_FEATURE,
    future_slack_seconds=FUTURE_SLACK_SECONDS,
    late_limit_seconds=LATE_LIMIT_SECONDS,
    parse_time=parse_time,
)
