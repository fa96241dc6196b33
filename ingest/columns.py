"""The records of one batch in columns: how they are checked, wait in the inbox and are counted."""

import importlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

try:
    zstd: Any = importlib.import_module("backports.zstd")
except ImportError:
    # Python 3.14 and later carry it, in a package that shares its name with one of our apps.
    zstd = importlib.import_module("compression.zstd")

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder()
SCHEMA = 2
MAX_PLAIN_BYTES = 256 * 1024 * 1024
"""Far above what an intake of any setting packs; a damaged row cannot fill a worker's memory."""
_LEVEL = 1
"""Of Zstandard: half of the bytes for a hundredth of a millisecond."""
RESTAMPED, TOO_OLD, COUNTED = 1, 2, 4
NO_CLASS = -1
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

#: Version, variant or None, model, and entries of the label map.
ReleaseKey = tuple[int, int | None, int, int]


@dataclass(frozen=True)
class Columns:
    """Records by field, each array of shape (n,) unless said otherwise.

    Attributes:
        releases: what `release` (int64) points into.
        at: float64, Unix seconds that decide the window.
        flags: uint8, `RESTAMPED` where the device's clock was ahead and the receive time was
            taken, `TOO_OLD` where a record is kept and counted in no window, `COUNTED` where a
            summary of the device counts it.
        latency_ms: float64.
        confidence: float64, NaN where there is none.
        class_id: int64, `NO_CLASS` where there is none.
        error: int64 into `errors`; 0 is no error.
        errors: texts, the first of them empty.
        widths: int64, numbers that a record has in `features`; 0 where it has none.
        features: float64 of shape (sum of widths,), one record after the other.
        others: fields that nothing counts, by name; each a list of n values or None, left out
            where no record has the field.
    """

    releases: tuple[ReleaseKey, ...]
    release: NDArray[np.int64]
    at: NDArray[np.float64]
    flags: NDArray[np.uint8]
    latency_ms: NDArray[np.float64]
    confidence: NDArray[np.float64]
    class_id: NDArray[np.int64]
    error: NDArray[np.int64]
    errors: tuple[str, ...]
    widths: NDArray[np.int64]
    features: NDArray[np.float64]
    others: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(self.at)


def make_columns(
    fields: Mapping[str, Sequence[Any]],
    releases: Sequence[ReleaseKey],
    release: Sequence[int] | NDArray[np.int64],
    at: Sequence[float] | NDArray[np.float64],
    flags: Sequence[int] | NDArray[np.uint8],
) -> Columns:
    """The columns of records, with what was found out about each.

    Args:
        fields: the fields of `ingest.records.Record` by name, one value or None for each record.
    """
    n = len(at)
    widths = np.zeros(n, np.int64)
    flat: list[float] = []
    rows = fields["features"]
    if any(rows):
        widths = np.array([len(row) if row else 0 for row in rows], np.int64)
        flat = list(chain.from_iterable(filter(None, rows)))
    classes = fields["class_id"]
    if None in classes:
        classes = [NO_CLASS if value is None else value for value in classes]
    error, errors = code_texts(fields["error"])
    return Columns(
        releases=tuple(releases),
        release=np.asarray(release, np.int64),
        at=np.asarray(at, np.float64),
        flags=np.asarray(flags, np.uint8),
        latency_ms=np.array(fields["latency_ms"], np.float64),
        confidence=np.array(fields["confidence"], np.float64),
        class_id=np.array(classes, np.int64),
        error=error,
        errors=errors,
        widths=widths,
        features=np.array(flat, np.float64),
        others={
            name: list(fields[name])
            for name in _OTHERS
            if any(value is not None for value in fields.get(name, ()))
        },
    )


def code_texts(texts: Sequence[str | None]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Numbers for `texts` and what they stand for; 0 is the empty text, or none."""
    if not any(texts):
        return np.zeros(len(texts), np.int64), ("",)
    known = {"": 0}
    codes = [known.setdefault(text or "", len(known)) for text in texts]
    return np.array(codes, np.int64), tuple(known)


def pack_columns(columns: Columns, cohorts: Mapping[int, str]) -> bytes:
    """`columns` as they wait in the inbox: MessagePack in Zstandard.

    Args:
        cohorts: model id to the cohort the device was in when the batch arrived.
    """
    body = {
        "schema": SCHEMA,
        "releases": columns.releases,
        "cohorts": {str(model): cohort for model, cohort in cohorts.items()},
        "errors": columns.errors,
        "others": columns.others,
        **{
            name: np.ascontiguousarray(getattr(columns, name), dtype).tobytes()
            for name, dtype in _ARRAYS.items()
        },
    }
    packed: bytes = zstd.compress(_ENCODER.encode(body), _LEVEL)
    return packed


def unpack_columns(payload: bytes) -> tuple[Columns, dict[int, str]]:
    """What `pack_columns` packed, now or in an earlier release.

    Raises:
        ValueError: the bytes are cut short, damaged or of a later schema.
    """
    body = _DECODER.decode(_inflate(payload))
    cohorts = {int(model): str(cohort) for model, cohort in body["cohorts"].items()}
    if body.get("schema") == 1:
        return _read_schema_1(body), cohorts
    if body.get("schema") != SCHEMA:
        raise ValueError(f"Inbox schema is {body.get('schema')}; expected 1 or {SCHEMA}.")
    arrays = {
        name: np.frombuffer(body[name], dtype).astype(_AS.get(name, dtype), copy=False)
        for name, dtype in _ARRAYS.items()
    }
    n = len(arrays["at"])
    if any(len(arrays[name]) != n for name in _ARRAYS if name != "features"):
        raise ValueError("The columns are not all of one length.")
    if int(arrays["widths"].sum()) != len(arrays["features"]):
        raise ValueError("The features are not as many as their widths say.")
    return (
        Columns(
            releases=tuple(tuple(key) for key in body["releases"]),
            errors=tuple(body["errors"]),
            others=body["others"],
            **arrays,
        ),
        cohorts,
    )


def _inflate(payload: bytes) -> bytes:
    is_zstd = payload.startswith(_ZSTD_MAGIC)
    try:
        if is_zstd:
            inflater: Any = zstd.ZstdDecompressor()
            plain: bytes = inflater.decompress(payload, max_length=MAX_PLAIN_BYTES)
        else:
            inflater = zlib.decompressobj()
            plain = inflater.decompress(payload, MAX_PLAIN_BYTES)
    except (zlib.error, zstd.ZstdError) as error:
        raise ValueError(f"The columns are damaged: {error}") from error
    if not inflater.eof:
        raise ValueError(f"The columns are cut short or larger than {MAX_PLAIN_BYTES} bytes.")
    return plain


def _read_schema_1(body: Mapping[str, Any]) -> Columns:
    """Lists by field, as an earlier release packed them."""
    rows = body["columns"]
    flags = [
        RESTAMPED * bool(is_restamped) | TOO_OLD * bool(is_too_old)
        for is_restamped, is_too_old in zip(rows["restamped"], rows["too_old"], strict=True)
    ]
    releases = [tuple(key) for key in body["releases"]]
    return make_columns(rows, releases, rows["release"], rows["at"], flags)


#: As they are packed, least bytes first; `_AS` names those that are wider in memory.
_ARRAYS = {
    "release": "<u2", "at": "<f8", "flags": "<u1", "latency_ms": "<f8", "confidence": "<f8",
    "class_id": "<i8", "error": "<u2", "widths": "<u2", "features": "<f8",
}  # fmt: skip
_AS = {"release": "<i8", "error": "<i8", "widths": "<i8"}
_OTHERS = ("provider", "request_hash", "record_id", "seq")
