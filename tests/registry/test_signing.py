"""Envelopes: what is signed verifies, and nothing else does."""

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from registry.exceptions import EnvelopeInvalidError
from registry.services.trust import sign_with
from registry.signing import key_id, pae, sign_envelope, verify_envelope

KEY = SigningKey(b"\x01" * 32)
OTHER = SigningKey(b"\x02" * 32)
KIND = "application/vnd.aviary.manifest.v1+json"


def trust(key: SigningKey, *roles: str) -> dict[str, Any]:
    public = bytes(key.verify_key)
    return {
        "keyid": key_id(public),
        "algorithm": "ed25519",
        "public_key": base64.b64encode(public).decode(),
        "roles": list(roles or ["manifest"]),
    }


def test_the_signed_bytes_follow_the_dsse_example() -> None:
    # The test vector of secure-systems-lab/dsse, protocol.md.
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected


def test_lengths_are_counted_in_bytes() -> None:
    assert pae("é", "ü".encode()) == "DSSEv1 2 é 2 ü".encode()


@given(st.binary(max_size=300))
def test_a_signed_payload_comes_back_as_it_was(payload: bytes) -> None:
    envelope = sign_envelope(payload, KIND, sign_with(KEY))
    assert verify_envelope(envelope, [trust(KEY)], KIND, role="manifest") == payload


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=60), st.data())
def test_one_flipped_bit_anywhere_is_refused(payload: bytes, data: st.DataObject) -> None:
    envelope = sign_envelope(payload, KIND, sign_with(KEY))
    in_payload = data.draw(st.booleans())
    holder = envelope if in_payload else envelope["signatures"][0]
    field = "payload" if in_payload else "sig"
    raw = bytearray(base64.b64decode(holder[field]))
    position = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[position // 8] ^= 1 << (position % 8)
    holder[field] = base64.b64encode(bytes(raw)).decode()
    with pytest.raises(EnvelopeInvalidError):
        verify_envelope(envelope, [trust(KEY)], KIND)


def change(**over: Any) -> dict[str, Any]:
    return {**sign_envelope(b"{}", KIND, sign_with(KEY)), **over}


ATTACKS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "key is not trusted": (sign_envelope(b"{}", KIND, sign_with(OTHER)), [trust(KEY)]),
    "key has another role": (change(), [trust(KEY, "assignment")]),
    "no key at all": (change(), []),
    "other payload type": (sign_envelope(b"{}", "text/plain", sign_with(KEY)), [trust(KEY)]),
    "type swapped after signing": (
        {**sign_envelope(b"{}", "text/plain", sign_with(KEY)), "payloadType": KIND},
        [trust(KEY)],
    ),
    "no signature": (change(signatures=[]), [trust(KEY)]),
    "signatures is no list": (change(signatures="x"), [trust(KEY)]),
    "signature is no object": (change(signatures=["x"]), [trust(KEY)]),
    "payload is not base64": (change(payload="%%%"), [trust(KEY)]),
    "payload is missing": (change(payload=None), [trust(KEY)]),
    "key id claims another key": (
        change(
            signatures=[
                {
                    **sign_envelope(b"{}", KIND, sign_with(OTHER))["signatures"][0],
                    "keyid": trust(KEY)["keyid"],
                }
            ]
        ),
        [trust(KEY)],
    ),
    "trusted entry lies about its id": (
        sign_envelope(b"{}", KIND, sign_with(KEY)),
        [{**trust(OTHER), "keyid": trust(KEY)["keyid"]}],
    ),
    "unknown algorithm": (change(), [{**trust(KEY), "algorithm": "none"}]),
}


@pytest.mark.parametrize("case", ATTACKS, ids=list(ATTACKS))
def test_envelopes_nobody_vouches_for_are_refused(case: str) -> None:
    envelope, keys = ATTACKS[case]
    with pytest.raises(EnvelopeInvalidError):
        verify_envelope(envelope, keys, KIND, role="manifest")


def test_one_good_signature_among_bad_ones_is_enough() -> None:
    envelope = sign_envelope(b"{}", KIND, sign_with(KEY))
    bad = sign_envelope(b"{}", KIND, sign_with(OTHER))["signatures"]
    envelope["signatures"] = bad + envelope["signatures"]
    assert verify_envelope(envelope, [trust(KEY)], KIND) == b"{}"
