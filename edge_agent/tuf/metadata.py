"""TUF metadata, read and checked by itself: no I/O and no clock.

The format is that of section 4 of the TUF specification (version 1.0). Only Ed25519 keys are read:
the agent has no library for others, and a key that it cannot use counts as no signature.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from edge_agent.exceptions import SignatureError, TrustDocumentError
from edge_agent.tuf.canonical import encode_canonical

TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")
MAX_SIGNATURES = 256
MAX_KEYS = 1024
_EXPIRES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_HEX_32 = re.compile(r"[0-9a-f]{64}")
_HEX_64 = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True)
class RoleKeys:
    """Who may speak for a role: `threshold` of the keys must sign, each counted once."""

    keys: Mapping[str, bytes]
    """Key id to the 32 raw bytes of an Ed25519 key."""
    threshold: int


@dataclass(frozen=True)
class Signed:
    """One metadata file, as it was read; not yet verified."""

    kind: str
    version: int
    expires: datetime
    document: Mapping[str, Any]
    """The part that is signed."""
    message: bytes
    signatures: Mapping[str, str]
    """Key id to the signature in hexadecimal."""


def parse_signed(data: bytes, kind: str) -> Signed:
    """The metadata file in `data`, which says of itself that it is of `kind`.

    Raises:
        TrustDocumentError: anything else; the message names what was expected and what came.
    """

    def refuse(text: str) -> float:
        raise TrustDocumentError(f"{kind}: {text} is not allowed")

    try:
        whole = json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise TrustDocumentError(f"{kind}: not JSON: {error}") from error
    document = _object(whole, "signed", kind)
    if document.get("_type") != kind:
        raise TrustDocumentError(f"{kind}: _type is {document.get('_type')!r}")
    spec = document.get("spec_version")
    if not isinstance(spec, str) or spec.split(".")[0] != "1":
        raise TrustDocumentError(f"{kind}: expected spec_version 1.x, got {spec!r}")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise TrustDocumentError(f"{kind}: expected a version of 1 or more, got {version!r}")
    return Signed(
        kind=kind,
        version=version,
        expires=_time(document.get("expires"), kind),
        document=document,
        message=encode_canonical(document),
        signatures=_signatures(whole, kind),
    )


def verify_threshold(signed: Signed, role: RoleKeys) -> None:
    """Returns when enough different keys of `role` signed (specification 5.3.4).

    Raises:
        SignatureError: fewer than the threshold did.
    """
    believed = set()
    for keyid, public_key in role.keys.items():
        signature = signed.signatures.get(keyid, "")
        if not _HEX_64.fullmatch(signature):
            continue
        try:
            VerifyKey(public_key).verify(signed.message, bytes.fromhex(signature))
        except (BadSignatureError, ValueError):
            continue
        # The key counts, not its id: one key under two names is still one signer.
        believed.add(public_key)
    if len(believed) < role.threshold:
        raise SignatureError(
            f"{signed.kind} {signed.version}: {len(believed)} of {role.threshold} signatures"
        )


def read_root_roles(root: Signed) -> dict[str, RoleKeys]:
    """The four top-level roles that a root names.

    Raises:
        TrustDocumentError: a role or a key is missing or malformed.
    """
    keys = read_keys(root.document.get("keys"), root.kind)
    roles = _object(root.document, "roles", root.kind)
    return {name: _role(_object(roles, name, root.kind), keys, name) for name in TOP_LEVEL}


def read_delegations(targets: Signed) -> dict[str, RoleKeys]:
    """The roles that a targets file delegates to, by name; none when it delegates nothing."""
    part = targets.document.get("delegations")
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise TrustDocumentError(f"delegations: expected an object, got {type(part).__name__}")
    keys = read_keys(part.get("keys"), "delegations")
    rows = part.get("roles") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TrustDocumentError("delegations: expected a list of roles")
    return {str(row.get("name")): _role(row, keys, str(row.get("name"))) for row in rows}


def read_keys(rows: Any, where: str) -> dict[str, bytes]:
    """Key id to public key; keys of other kinds are left out, malformed ones are refused."""
    if not isinstance(rows, dict) or len(rows) > MAX_KEYS:
        raise TrustDocumentError(f"{where}: expected an object of at most {MAX_KEYS} keys")
    found = {}
    for keyid, row in rows.items():
        value = _object(row, "keyval", where).get("public")
        if not isinstance(row.get("keytype"), str) or not isinstance(row.get("scheme"), str):
            raise TrustDocumentError(f"{where}: a key names its keytype and scheme")
        if not isinstance(value, str):
            raise TrustDocumentError(f"{where}: a key has a public part")
        if (row["keytype"], row["scheme"]) == ("ed25519", "ed25519") and _HEX_32.fullmatch(value):
            found[keyid] = bytes.fromhex(value)
    return found


def read_meta(signed: Signed) -> dict[str, dict[str, Any]]:
    """The `meta` of a timestamp or snapshot: file name to version, length and hashes."""
    rows = _object(signed.document, "meta", signed.kind)
    for name, row in rows.items():
        if not isinstance(row, dict) or type(row.get("version")) is not int or row["version"] < 1:
            raise TrustDocumentError(f"{signed.kind}: {name} has no version")
        length, hashes = row.get("length"), row.get("hashes")
        if length is not None and (type(length) is not int or length < 1):
            raise TrustDocumentError(f"{signed.kind}: {name} has length {length!r}")
        if hashes is not None and (not isinstance(hashes, dict) or not hashes):
            raise TrustDocumentError(f"{signed.kind}: {name} has hashes {hashes!r}")
    return rows


def _role(row: Mapping[str, Any], keys: Mapping[str, bytes], name: str) -> RoleKeys:
    keyids, threshold = row.get("keyids"), row.get("threshold")
    if not isinstance(keyids, list) or not all(isinstance(item, str) for item in keyids):
        raise TrustDocumentError(f"role {name}: expected a list of key ids")
    if len(set(keyids)) != len(keyids):
        raise TrustDocumentError(f"role {name}: a key id appears twice")
    if type(threshold) is not int or threshold < 1:
        raise TrustDocumentError(f"role {name}: expected a threshold of 1 or more")
    return RoleKeys({keyid: keys[keyid] for keyid in keyids if keyid in keys}, threshold)


def _signatures(whole: Mapping[str, Any], kind: str) -> dict[str, str]:
    rows = whole.get("signatures")
    if not isinstance(rows, list) or len(rows) > MAX_SIGNATURES:
        raise TrustDocumentError(f"{kind}: expected a list of at most {MAX_SIGNATURES} signatures")
    found: dict[str, str] = {}
    for row in rows:
        keyid = row.get("keyid") if isinstance(row, dict) else None
        signature = row.get("sig") if isinstance(row, dict) else None
        if not isinstance(keyid, str) or not isinstance(signature, str):
            raise TrustDocumentError(f"{kind}: a signature has a keyid and a sig")
        if keyid in found:
            raise TrustDocumentError(f"{kind}: two signatures have the key id {keyid}")
        found[keyid] = signature
    return found


def _object(container: Any, name: str, kind: str) -> dict[str, Any]:
    value = container.get(name) if isinstance(container, dict) else None
    if not isinstance(value, dict):
        raise TrustDocumentError(f"{kind}: expected an object {name}, got {type(value).__name__}")
    return value


def _time(value: Any, kind: str) -> datetime:
    if not isinstance(value, str) or not _EXPIRES.fullmatch(value):
        raise TrustDocumentError(f"{kind}: expected expires in UTC, got {value!r}")
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise TrustDocumentError(f"{kind}: expires: {error}") from error
