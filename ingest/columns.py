"""The columnar form in which a batch waits in the inbox."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ingest.records import CheckedRecord

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder()
SCHEMA = 1
MAX_PLAIN_BYTES = 256 * 1024 * 1024
"""Far above what an intake of any setting packs; a damaged row cannot fill a worker's memory."""


def pack_columns(records: Sequence[CheckedRecord], cohorts: Mapping[int, str]) -> bytes:
    """The columns of `records`, MessagePack in zlib.

    Args:
        records: what was accepted.
        cohorts: model id to the cohort the device was in when the batch arrived.
    """
    keys: dict[tuple[int, int | None, int, int], int] = {}
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for item in records:
        release = item.release
        key = (release.version_id, release.variant_id, release.model_id, release.labels)
        columns["release"].append(keys.setdefault(key, len(keys)))
        columns["at"].append(item.at)
        columns["restamped"].append(item.is_restamped)
        columns["too_old"].append(item.is_too_old)
        for name in _RECORD_COLUMNS:
            columns[name].append(getattr(item.record, name))
    body = {
        "schema": SCHEMA,
        "releases": [list(key) for key in keys],
        "cohorts": {str(model): cohort for model, cohort in cohorts.items()},
        "columns": columns,
    }
    return zlib.compress(_ENCODER.encode(body), 3)


def unpack_columns(payload: bytes) -> dict[str, Any]:
    """What `pack_columns` packed: `releases`, `cohorts` and `columns`."""
    inflater = zlib.decompressobj()
    plain = inflater.decompress(payload, MAX_PLAIN_BYTES)
    if not inflater.eof:
        raise ValueError(f"The columns are cut short or larger than {MAX_PLAIN_BYTES} bytes.")
    body: dict[str, Any] = _DECODER.decode(plain)
    if body.get("schema") != SCHEMA:
        raise ValueError(f"Inbox schema is {body.get('schema')}; expected {SCHEMA}.")
    return body


_RECORD_COLUMNS = (
    "latency_ms",
    "confidence",
    "class_id",
    "features",
    "error",
    "provider",
    "request_hash",
    "record_id",
    "seq",
)
_COLUMNS = ("release", "at", "restamped", "too_old", *_RECORD_COLUMNS)
