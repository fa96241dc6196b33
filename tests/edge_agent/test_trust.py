"""Attacks on the two envelopes, as a table: each must be refused by its own error."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import exceptions as e
from edge_agent.releases.trust import (
    ASSIGNMENT_TYPE,
    MANIFEST_TYPE,
    LastActed,
    Manifest,
    check_assignment,
    check_manifest,
    parse_assignment,
    parse_manifest,
    parse_trust_keys,
    parse_version,
    verify_envelope,
)
from tests.edge_agent.publisher import (
    ASSIGNMENT_KEY,
    DEVICE,
    MANIFEST_KEY,
    MODEL,
    STRANGER_KEY,
    TRUST_KEYS,
    make_assignment,
    make_manifest,
    make_trust_rows,
    seal,
)

CONTENTS = {"model.onnx": ("model", b"bytes")}
NOW = datetime.now(UTC).replace(microsecond=0)


def accept_manifest(envelope: Any) -> Manifest:
    payload = verify_envelope(
        envelope, keys=TRUST_KEYS, payload_type=MANIFEST_TYPE, role="manifest"
    )
    return parse_manifest(payload)


def sealed_manifest(**over: Any) -> dict[str, Any]:
    return seal(make_manifest(CONTENTS, **over), MANIFEST_TYPE, MANIFEST_KEY)


def flip_payload(envelope: dict[str, Any]) -> dict[str, Any]:
    raw = base64.b64decode(envelope["payload"]).replace(b'"sequence":1', b'"sequence":9')
    return {**envelope, "payload": base64.b64encode(raw).decode()}


def with_file(**over: Any) -> dict[str, Any]:
    row = {"path": "model.onnx", "role": "model", "sha256": "0" * 64, "size_bytes": 5}
    return sealed_manifest(files=[{**row, **over}])


ENVELOPE_ATTACKS: dict[str, tuple[Any, type[Exception]]] = {
    "no envelope": (None, e.EnvelopeError),
    "a list": ([], e.EnvelopeError),
    "another payload type": (
        seal(make_manifest(CONTENTS), ASSIGNMENT_TYPE, MANIFEST_KEY),
        e.EnvelopeError,
    ),
    "a payload that is no base64": ({**sealed_manifest(), "payload": "%%"}, e.EnvelopeError),
    "a changed payload": (flip_payload(sealed_manifest()), e.SignatureError),
    "no signatures": ({**sealed_manifest(), "signatures": []}, e.SignatureError),
    "signatures of the wrong shape": ({**sealed_manifest(), "signatures": "x"}, e.EnvelopeError),
    "a stranger's key": (
        seal(make_manifest(CONTENTS), MANIFEST_TYPE, STRANGER_KEY),
        e.SignatureError,
    ),
    "a key of the other role": (
        seal(make_manifest(CONTENTS), MANIFEST_TYPE, ASSIGNMENT_KEY),
        e.SignatureError,
    ),
    "a payload that is no JSON": (seal(b"{", MANIFEST_TYPE, MANIFEST_KEY), e.DocumentError),
    "deep nesting": (seal(b"[" * 100_000, MANIFEST_TYPE, MANIFEST_KEY), e.DocumentError),
    "NaN": (seal(b'{"schema": NaN}', MANIFEST_TYPE, MANIFEST_KEY), e.DocumentError),
    "another schema": (sealed_manifest(schema="aviary.manifest/9"), e.DocumentError),
    "no files": (sealed_manifest(files=[]), e.DocumentError),
    "a path upwards": (with_file(path="../model.onnx"), e.DocumentError),
    "an absolute path": (with_file(path="/etc/passwd"), e.DocumentError),
    "a backslash": (with_file(path="..\\x"), e.DocumentError),
    "an unknown role": (with_file(role="script"), e.DocumentError),
    "no model": (with_file(role="labels"), e.DocumentError),
    "an upper-case digest": (with_file(sha256="A" * 64), e.DocumentError),
    "a digest that is a path": (with_file(sha256="../" * 21 + "x"), e.DocumentError),
    "a negative size": (with_file(size_bytes=-1), e.DocumentError),
    "a size that is true": (with_file(size_bytes=True), e.DocumentError),
}


@pytest.mark.parametrize("name", ENVELOPE_ATTACKS)
def test_a_bad_manifest_is_refused(name: str) -> None:
    envelope, error = ENVELOPE_ATTACKS[name]
    with pytest.raises(error):
        accept_manifest(envelope)


def test_a_good_manifest_is_known_by_the_digest_of_its_payload() -> None:
    envelope = sealed_manifest()
    payload = base64.b64decode(envelope["payload"])
    assert accept_manifest(envelope).digest == hashlib.sha256(payload).hexdigest()


def test_one_valid_signature_among_others_is_enough() -> None:
    envelope = sealed_manifest()
    bad = {"keyid": "0" * 64, "sig": "AAAA"}
    broken = {**envelope["signatures"][0], "sig": "!"}
    envelope["signatures"] = [bad, broken, *envelope["signatures"]]
    assert accept_manifest(envelope).version == "1.0.0"


ASSIGNMENT_ATTACKS: dict[str, tuple[dict[str, Any], LastActed, type[Exception]]] = {
    "another device": ({"device_id": "edge-002"}, LastActed(), e.WrongDeviceError),
    "another model": ({"model": "cats"}, LastActed(), e.WrongModelError),
    "an older counter": ({"counter": 4}, LastActed(5, "m", "install"), e.CounterError),
    "the same counter with another manifest": (
        {"counter": 5},
        LastActed(5, "other", "install"),
        e.CounterError,
    ),
    "the same counter with another action": (
        {"counter": 5, "action": "remove"},
        LastActed(5, "m", "install"),
        e.CounterError,
    ),
    "expired": (
        {"expires_at": (NOW - timedelta(days=2)).isoformat()},
        LastActed(),
        e.ExpiredError,
    ),
}


@pytest.mark.parametrize("name", ASSIGNMENT_ATTACKS)
def test_a_bad_assignment_is_refused(name: str) -> None:
    over, last, error = ASSIGNMENT_ATTACKS[name]
    payload = json.dumps(make_assignment("m", **over)).encode()
    with pytest.raises(error):
        check_assignment(
            parse_assignment(payload), device_id=DEVICE, model=MODEL, last=last, trusted_time=NOW
        )


@pytest.mark.parametrize(
    ("counter", "last"),
    [(1, LastActed()), (6, LastActed(5, "x", "install")), (5, LastActed(5, "m", "install"))],
)
def test_a_newer_or_repeated_counter_is_accepted(counter: int, last: LastActed) -> None:
    assignment = parse_assignment(json.dumps(make_assignment("m", counter=counter)).encode())
    check_assignment(assignment, device_id=DEVICE, model=MODEL, last=last, trusted_time=None)


def test_a_day_past_the_expiry_is_forgiven() -> None:
    document = make_assignment("m", expires_at=(NOW - timedelta(hours=23)).isoformat())
    assignment = parse_assignment(json.dumps(document).encode())
    check_assignment(assignment, device_id=DEVICE, model=MODEL, last=LastActed(), trusted_time=NOW)


MANIFEST_ATTACKS: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception]]] = {
    "below the floor": ({}, {"floor_sequence": 2}, e.FloorError),
    "another manifest than assigned": (
        {},
        {"manifest_sha256": "0" * 64},
        e.ManifestMismatchError,
    ),
    "a manifest of another model": ({"model": "cats"}, {}, e.WrongModelError),
    "a newer agent needed": ({"min_agent_version": "0.10.0"}, {}, e.AgentTooOldError),
}


@pytest.mark.parametrize("name", MANIFEST_ATTACKS)
def test_a_manifest_that_breaks_a_rule_of_its_assignment_is_refused(name: str) -> None:
    manifest_over, over, error = MANIFEST_ATTACKS[name]
    manifest = accept_manifest(sealed_manifest(**manifest_over))
    document = {**make_assignment(manifest.digest), **over}
    assignment = parse_assignment(json.dumps(document).encode())
    with pytest.raises(error):
        check_manifest(manifest, assignment=assignment, agent_version="0.9.0")


def test_a_key_whose_id_is_not_its_digest_is_refused() -> None:
    rows = make_trust_rows()
    rows[0]["keyid"] = rows[1]["keyid"]
    with pytest.raises(e.EnvelopeError):
        parse_trust_keys(rows)


def test_versions_compare_by_number() -> None:
    assert parse_version("0.10.0") > parse_version("0.9.1")
    assert parse_version("1.2rc1") == parse_version("1.2")


@given(st.binary(max_size=200))
def test_no_payload_raises_anything_but_a_document_error(payload: bytes) -> None:
    for parse in (parse_manifest, parse_assignment):
        with pytest.raises(e.DocumentError):
            parse(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(json_values)
def test_no_envelope_raises_anything_but_a_published_error(envelope: Any) -> None:
    with pytest.raises(e.PublishedError):
        accept_manifest(envelope)
