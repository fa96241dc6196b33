"""Signed documents: DSSE envelopes with Ed25519; pure, keys are passed in.

DSSE: Dead Simple Signing Envelope, version 1 (secure-systems-lab/dsse, `protocol.md`).
The payload is decoded and parsed only after a signature over its bytes has been verified.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from registry.exceptions import EnvelopeInvalidError

ALGORITHM = "ed25519"


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed (DSSE pre-authentication encoding)."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_id(public_key: bytes) -> str:
    """SHA-256 of the 32 raw bytes of a public key, in hexadecimal."""
    return hashlib.sha256(public_key).hexdigest()


Sign = Callable[[bytes], tuple[bytes, bytes]]
"""Message to the public key that signed it, and the signature."""


def sign_envelope(payload: bytes, payload_type: str, *signers: Sign) -> dict[str, Any]:
    """The envelope of a payload, with one signature by each of `signers`."""
    signatures = []
    for sign in signers:
        public_key, signature = sign(pae(payload_type, payload))
        signatures.append(
            {"keyid": key_id(public_key), "sig": base64.b64encode(signature).decode("ascii")}
        )
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode("ascii"),
        "signatures": signatures,
    }


def verify_envelope(
    envelope: Mapping[str, Any],
    keys: Iterable[Mapping[str, Any]],
    payload_type: str,
    *,
    role: str | None = None,
) -> bytes:
    """The payload bytes, once one signature by a trusted key has been verified.

    Args:
        keys: `{"keyid", "algorithm", "public_key", "roles"}` each, as devices get them.
        role: the role the key must have; None takes any key that is passed in.

    Raises:
        EnvelopeInvalidError: of another type, malformed, or not signed by such a key.
    """
    if envelope.get("payloadType") != payload_type:
        raise EnvelopeInvalidError(
            f"Expected payload type {payload_type}; got {envelope.get('payloadType')!r}"
        )
    payload = _decode(envelope.get("payload"), "payload")
    trusted: dict[str, VerifyKey] = {}
    for key in keys:
        if key.get("algorithm") != ALGORITHM or (role and role not in key.get("roles", ())):
            continue
        raw = _decode(key.get("public_key"), "public key")
        # The id is computed, not believed: two keys cannot share one.
        if len(raw) == 32:
            trusted[key_id(raw)] = VerifyKey(raw)
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list):
        raise EnvelopeInvalidError("signatures is a list")
    message = pae(payload_type, payload)
    for entry in signatures:
        verifier = trusted.get(entry.get("keyid", "")) if isinstance(entry, Mapping) else None
        if verifier is None:
            continue
        try:
            verifier.verify(message, _decode(entry.get("sig"), "signature"))
        except (BadSignatureError, ValueError):
            continue
        return payload
    raise EnvelopeInvalidError("No signature by a trusted key with the right role")


def _decode(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise EnvelopeInvalidError(f"The {what} is base64 text; got {type(text).__name__}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeInvalidError(f"The {what} is not base64: {error}") from error
