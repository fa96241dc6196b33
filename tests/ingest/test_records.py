"""Decoding: what one bad record costs, and what a hostile body cannot do."""

import gzip
import json

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from ingest import records
from ingest.columns import RESTAMPED, TOO_OLD
from ingest.exceptions import BatchTooLargeError, MalformedBatchError, UnsupportedEncodingError

NOW = 1_800_000_000.0
RELEASE = records.Release("digits", "1.0.0", 1, 1, 1, labels=10, features=2)
RELEASES = {(None, "1.0.0"): RELEASE, ("digits", "1.0.0"): RELEASE}


def record(**over):
    base = {
        "timestamp": NOW,
        "latency_ms": 1.5,
        "model_version": "1.0.0",
        "confidence": 0.9,
        "class_id": 3,
    }
    return {**base, **over}


def check(*items):
    body = json.dumps({"device_id": "d", "records": list(items)}).encode()
    return records.check_batch(records.decode_batch(body, 5000), RELEASES, NOW)


BAD = {
    "NaN confidence": ({"confidence": float("nan")}, "confidence"),
    "infinite latency": ({"latency_ms": float("inf")}, "latency_ms"),
    "latency of 1e200": ({"latency_ms": 1e200}, "latency_ms"),
    "latency of the largest float": ({"latency_ms": 1.7976931348623157e308}, "latency_ms"),
    "latency beyond a day": ({"latency_ms": 86_400_001}, "latency_ms"),
    "latency of 400 digits": ({"latency_ms": 10**400}, "latency_ms"),
    "feature beyond 32 bits": ({"features": [1e200, 0.0]}, "features"),
    "seq beyond 64 bits": ({"seq": 2**70}, "seq"),
    "negative seq beyond 64 bits": ({"seq": -(2**63) - 1}, "seq"),
    "record id of 40 digits": ({"record_id": 10**40}, "record_id"),
    "class beyond 64 bits": ({"class_id": 10**30}, "class_id"),
    "time before 1970": ({"timestamp": "0001-01-01T00:00:00+23:59"}, "timestamp"),
    "negative time": ({"timestamp": -1}, "timestamp"),
    "time of 1e200": ({"timestamp": 1e200}, "timestamp"),
    "NUL in model": ({"model": "a\0"}, "U+0000"),
    "NUL in version": ({"model_version": "1.0.0\0"}, "U+0000"),
    "NUL in provider": ({"provider": "\0"}, "U+0000"),
    "NUL in record id": ({"record_id": "\0"}, "U+0000"),
    "NUL in error": ({"error": "\0"}, "U+0000"),
    "NUL in hash": ({"request_hash": "a\0b"}, "U+0000"),
    "NUL in time": ({"timestamp": "2027-01-15\0"}, "U+0000"),
    "surrogate in hash": ({"request_hash": "\ud83d"}, "surrogate"),
    "surrogate in model": ({"model": "\udfff"}, "surrogate"),
    "negative latency": ({"latency_ms": -0.1}, "latency_ms"),
    "confidence above one": ({"confidence": 1.01}, "confidence"),
    "confidence as text": ({"confidence": "high"}, "str"),
    "class beyond the map": ({"class_id": 10}, "class_id"),
    "negative class": ({"class_id": -1}, "class_id"),
    "class as a fraction": ({"class_id": 1.5}, "float"),
    "unknown version": ({"model_version": "9.9.9"}, "9.9.9"),
    "unknown model": ({"model": "other"}, "other"),
    "no confidence and no error": ({"confidence": None}, "confidence"),
    "unreadable time": ({"timestamp": "yesterday"}, "timestamp"),
    "NaN feature": ({"features": [float("nan"), 1]}, "features"),
    "features of another width": ({"features": [1.0]}, "features"),
    "overlong error": ({"error": "x" * 201}, "length"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_rejected_alone_with_index_and_reason(name):
    over, word = BAD[name]
    result = check(record(), record(**over), record())
    assert len(result.columns) == 2
    ((index, reason, _raw),) = result.rejected
    assert index == 1 and word in reason
    assert "\0" not in f"{reason}{_raw}" and f"{reason}{_raw}".encode()


def test_a_class_of_a_model_without_labels_has_a_range():
    free = {(None, "1.0.0"): records.Release("free", "1.0.0", 1, 1, 1, labels=0, features=None)}
    body = json.dumps({"records": [record(class_id=2**31), record(class_id=7)]}).encode()
    result = records.check_batch(records.decode_batch(body, 5000), free, NOW)
    assert len(result.columns) == 1 and "class_id" in result.rejected[0][1]


@pytest.mark.parametrize("field", ["batch_id", "device_id"])
@pytest.mark.parametrize("odd", ["\0", "\ud800"])
def test_an_id_that_no_database_keeps_is_refused(field, odd):
    with pytest.raises(MalformedBatchError):
        records.decode_batch(json.dumps({field: odd, "records": [record()]}).encode(), 10)


def test_a_missing_field_and_a_non_object_are_rejected_alone():
    incomplete = record()
    del incomplete["latency_ms"]
    result = check(incomplete, 7, record())
    assert [index for index, _, _ in result.rejected] == [0, 1]


def test_an_error_record_needs_no_confidence_and_no_class():
    assert len(check(record(confidence=None, class_id=None, error="timeout")).columns) == 1


def test_unknown_fields_are_ignored():
    assert len(check(record(colour="blue")).columns) == 1


def test_a_clock_ahead_is_restamped_and_a_very_late_record_is_only_kept():
    columns = (
        check(record(timestamp=NOW + 3600), record(timestamp=NOW - 86_400), record(timestamp=1.0))
    ).columns
    assert columns.at.tolist() == [NOW, NOW - 86_400, 1.0]
    assert columns.flags.tolist() == [RESTAMPED, 0, TOO_OLD]


def test_times_are_read_as_text_and_as_seconds():
    assert records.parse_time("2027-01-15T08:00:00Z") == records.parse_time(
        "2027-01-15T09:00:00+01:00"
    )
    assert records.parse_time(12.5) == 12.5
    assert records.parse_time("soon") is None


def test_a_repeated_record_id_counts_once():
    result = check(record(record_id="a"), record(record_id="a"), record(record_id="b"))
    assert len(result.columns) == 2 and result.duplicates == 1


def test_a_body_without_batch_id_is_named_by_its_digest():
    body = json.dumps({"device_id": "d", "records": []}).encode()
    assert records.decode_batch(body, 10).batch_id == records.decode_batch(body, 10).batch_id
    assert len(records.decode_batch(body, 10).batch_id) == 64


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b'{"records": 3}',
        b'{"device_id": 1, "records": []}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"records": [NaN], "batch_id": ""}',
    ],
)
def test_what_is_not_a_batch_is_refused(body):
    with pytest.raises(MalformedBatchError):
        records.decode_batch(body, 10)


def test_too_many_records_are_refused():
    body = json.dumps({"records": [record()] * 11}).encode()
    with pytest.raises(BatchTooLargeError):
        records.decode_batch(body, 10)


@given(st.binary(max_size=5000))
def test_inflation_returns_what_was_deflated(body):
    assert records.inflate(gzip.compress(body), "gzip", 10_000) == body
    assert records.inflate(zstd.compress(body), "zstd", 10_000) == body
    assert records.inflate(body, "", 10_000) == body


@pytest.mark.parametrize(("pack", "encoding"), [(gzip.compress, "gzip"), (zstd.compress, "zstd")])
def test_a_bomb_stops_at_the_limit_and_a_cut_body_is_refused(pack, encoding):
    bomb = pack(b"\0" * 20_000_000)
    with pytest.raises(BatchTooLargeError):
        records.inflate(bomb, encoding, 1_000_000)
    with pytest.raises(MalformedBatchError):
        records.inflate(pack(b"x" * 1000)[:-5], encoding, 10_000)
    with pytest.raises(MalformedBatchError):
        records.inflate(b"plain", encoding, 10_000)


def test_an_unknown_encoding_is_named():
    with pytest.raises(UnsupportedEncodingError, match="br"):
        records.inflate(b"x", "br", 10)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_value_in_place_of_a_record_breaks_the_batch(value):
    assert len(check(record(), value).columns) == 1


@given(st.dictionaries(st.sampled_from(sorted(record())), st.floats() | st.text() | st.none()))
def test_no_value_of_a_field_breaks_the_batch(over):
    result = check(record(), record(**over))
    assert len(result.columns) + len(result.rejected) == 2


VALUES = records.Release(
    "price", "2.0.0", 2, 2, 2, labels=0, features=3, has_classes=False, has_confidence=False
)
LABEL_ALONE = records.Release("form", "3.0.0", 3, 3, 3, 10, None, has_confidence=False)
WITHOUT = {
    "a number without a class": ("2.0.0", {"features": [0.0, 1.0, 7.5]}, ""),
    "a class of a release without any": ("2.0.0", {"class_id": 3}, "class_id is given"),
    "a confidence of a release without classes": ("2.0.0", {"confidence": 0.5}, "confidence is"),
    "features of the input alone": ("2.0.0", {"features": [0.0, 1.0]}, "expected 3"),
    "a class without confidence": ("3.0.0", {"class_id": 3}, ""),
    "neither of both": ("3.0.0", {}, "class_id is absent"),
}


@pytest.mark.parametrize("is_screened", [True, False])
@pytest.mark.parametrize("case", WITHOUT)
def test_a_record_has_what_its_release_answers(case: str, is_screened: bool) -> None:
    version, fields, reason = WITHOUT[case]
    row = {"timestamp": NOW, "latency_ms": 1.0, "model_version": version, **fields}
    known = {(None, "2.0.0"): VALUES, (None, "3.0.0"): LABEL_ALONE, **RELEASES}
    # An odd record beside it has all checked one by one.
    rows = [row] if is_screened else [row, record(latency_ms=-1)]
    body = json.dumps({"device_id": "d", "records": rows}).encode()
    found = records.check_batch(records.decode_batch(body, 10), known, NOW)
    reasons = [item[1] for item in found.rejected if item[0] == 0]
    assert [reason in text for text in reasons] == ([True] if reason else [])
