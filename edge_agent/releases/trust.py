"""What this device may act on: the rules of docs/protocol.md, with no I/O and no clock.

1. Both envelopes carry one valid Ed25519 signature by a trusted key that has the role.
2. The assignment names this device, the manifest's model and the manifest's digest.
3. `counter` is above the last one acted on, or equal with the same manifest and action.
4. The manifest's `sequence` is not below the assignment's `floor_sequence`.
5. The assignment has not expired by the time that is believed (`trusted_time.py`), with one day of
   slack.
6. `min_agent_version` is satisfied.
7. Paths, roles, sizes and digests are well formed; the files themselves are checked as they arrive.
"""

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from edge_agent.exceptions import (
    AgentTooOldError,
    CounterError,
    DocumentError,
    EnvelopeError,
    ExpiredError,
    FloorError,
    ManifestMismatchError,
    SignatureError,
    WrongDeviceError,
    WrongModelError,
)

MANIFEST_TYPE = "application/vnd.aviary.manifest.v1+json"
ASSIGNMENT_TYPE = "application/vnd.aviary.assignment.v1+json"
ROLES = frozenset({"model", "external_data", "labels", "processor", "golden", "baseline"})
EXPIRY_SLACK = timedelta(days=1)
PROCESSOR_GOLDEN_PATH = "processor-golden.npz"
DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_FILES = 64
MAX_SIGNATURES = 16
YEARS = range(1970, 9999)


@dataclass(frozen=True)
class TrustKey:
    keyid: str
    public_key: bytes
    roles: frozenset[str]

    @classmethod
    def of(cls, public_key: bytes, roles: frozenset[str]) -> "TrustKey":
        """The key of 32 raw bytes; its id is their SHA-256."""
        return cls(hashlib.sha256(public_key).hexdigest(), public_key, roles)

    def describe(self) -> dict[str, Any]:
        """What `parse_trust_keys` reads."""
        return {
            "keyid": self.keyid,
            "algorithm": "ed25519",
            "public_key": base64.b64encode(self.public_key).decode("ascii"),
            "roles": sorted(self.roles),
        }


@dataclass(frozen=True)
class ManifestFile:
    path: str
    role: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    digest: str
    """SHA-256 of the payload bytes: the release's identity."""
    model: str
    version: str
    variant: str
    sequence: int
    files: tuple[ManifestFile, ...]
    document: Mapping[str, Any]

    def file_of_role(self, role: str) -> ManifestFile | None:
        """The first file with `role`, or None when the release has none."""
        return next((file for file in self.files if file.role == role), None)

    @property
    def golden_file(self) -> ManifestFile | None:
        """The model's golden vectors: the file that `golden.path` names."""
        path = (self.document.get("golden") or {}).get("path")
        files = [file for file in self.files if file.role == "golden"]
        return next((file for file in files if file.path == path), None)

    @property
    def processor_golden_file(self) -> ManifestFile | None:
        """Raw images and what the processor must answer, when the release brings them."""
        files = [file for file in self.files if file.role == "golden"]
        return next((file for file in files if file.path == PROCESSOR_GOLDEN_PATH), None)

    @property
    def labels(self) -> list[str]:
        return list(self.document.get("labels") or [])


@dataclass(frozen=True)
class Assignment:
    assignment_id: str
    device_id: str
    model: str
    manifest_sha256: str
    counter: int
    floor_sequence: int
    action: str
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class LastActed:
    """What was last acted on for one model."""

    counter: int = 0
    manifest_sha256: str = ""
    action: str = ""


def parse_trust_keys(rows: Iterable[Mapping[str, Any]]) -> list[TrustKey]:
    """The usable keys of an enrolment answer; a key whose id is not its own digest is refused."""
    keys = []
    for row in rows:
        if row.get("algorithm") != "ed25519":
            continue
        raw = _decode_base64(row.get("public_key"), "public_key")
        if len(raw) != 32 or hashlib.sha256(raw).hexdigest() != row.get("keyid"):
            raise EnvelopeError("keyid is not the SHA-256 of the 32 raw bytes of the key")
        roles = row.get("roles") or []
        if not isinstance(roles, list):
            raise EnvelopeError(f"roles: expected a list, got {type(roles).__name__}")
        keys.append(TrustKey(str(row["keyid"]), raw, frozenset(map(str, roles))))
    return keys


def encode_pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding: the bytes that are signed."""
    name = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def verify_envelope(
    envelope: Any, *, keys: Iterable[TrustKey], payload_type: str, role: str
) -> bytes:
    """The payload of `envelope`, signed by a trusted key with `role`.

    Raises:
        EnvelopeError: not a DSSE envelope of `payload_type`.
        SignatureError: no signature verifies under a key with the role.
    """
    if not isinstance(envelope, Mapping):
        raise EnvelopeError(f"expected an envelope, got {type(envelope).__name__}")
    if envelope.get("payloadType") != payload_type:
        raise EnvelopeError(
            f"expected payloadType {payload_type}, got {envelope.get('payloadType')}"
        )
    payload = _decode_base64(envelope.get("payload"), "payload")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or not all(isinstance(s, Mapping) for s in signatures):
        raise EnvelopeError("signatures is not a list of objects")
    usable = {key.keyid: key for key in keys if role in key.roles}
    message = encode_pae(payload_type, payload)
    for signature in signatures[:MAX_SIGNATURES]:
        key = usable.get(str(signature.get("keyid")))
        if key is None:
            continue
        try:
            VerifyKey(key.public_key).verify(
                message, _decode_base64(signature.get("sig"), "signature")
            )
        except (BadSignatureError, ValueError, EnvelopeError):
            continue
        return payload
    raise SignatureError(f"no valid signature by a trusted {role} key")


def keep_proof(
    envelope: Mapping[str, Any], *, keys: Iterable[TrustKey], payload_type: str, role: str
) -> bytes:
    """A verified envelope as it is stored: the payload, and the signatures that verify.

    Nobody signs the list of signatures. An entry that names a key of tomorrow would speak for a
    stolen one of today (`Journal.forget_lost_signer`).

    Raises:
        EnvelopeError, SignatureError: as `verify_envelope`.
    """
    keys = tuple(keys)
    kept = []
    for row in envelope["signatures"][:MAX_SIGNATURES]:
        one = {**envelope, "signatures": [row]}
        try:
            verify_envelope(one, keys=keys, payload_type=payload_type, role=role)
        except (SignatureError, EnvelopeError):
            continue
        kept.append({"keyid": row["keyid"], "sig": row["sig"]})
    if not kept:
        raise SignatureError(f"no valid signature by a trusted {role} key")
    document = {"payloadType": payload_type, "payload": envelope["payload"], "signatures": kept}
    return json.dumps(document).encode()


def parse_manifest(payload: bytes) -> Manifest:
    """The manifest in verified `payload` bytes.

    Raises:
        DocumentError: a field is missing or breaks the protocol's rules.
    """
    document = _parse_document(payload, "aviary.manifest/1")
    rows = document.get("files")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_FILES:
        raise DocumentError(f"files: expected 1 to {MAX_FILES} entries")
    files = tuple(_parse_file(row) for row in rows)
    if len({file.path for file in files}) != len(files):
        raise DocumentError("files: a path appears twice")
    if sum(file.role == "model" for file in files) != 1:
        raise DocumentError("files: expected exactly one of role model")
    return Manifest(
        digest=hashlib.sha256(payload).hexdigest(),
        model=_text(document, "model"),
        version=_text(document, "version"),
        variant=_text(document, "variant"),
        sequence=_integer(document, "sequence"),
        files=files,
        document=document,
    )


def parse_assignment(payload: bytes) -> Assignment:
    """The assignment in verified `payload` bytes."""
    document = _parse_document(payload, "aviary.assignment/1")
    action = _text(document, "action")
    if action not in ("install", "remove"):
        raise DocumentError(f"action: expected install or remove, got {action}")
    return Assignment(
        assignment_id=_text(document, "assignment_id"),
        device_id=_text(document, "device_id"),
        model=_text(document, "model"),
        manifest_sha256=str(document.get("manifest_sha256") or ""),
        counter=_integer(document, "counter"),
        floor_sequence=_integer(document, "floor_sequence"),
        action=action,
        issued_at=_time(document, "issued_at"),
        expires_at=_time(document, "expires_at"),
    )


def check_assignment(
    assignment: Assignment,
    *,
    device_id: str,
    model: str,
    last: LastActed,
    trusted_time: datetime | None,
) -> None:
    """Rules 2, 3 and 5 for an assignment asked for `model`; raises the rule's error."""
    if assignment.device_id != device_id:
        raise WrongDeviceError(f"assignment is for {assignment.device_id}, this is {device_id}")
    if assignment.model != model:
        raise WrongModelError(f"assignment is for model {assignment.model}, expected {model}")
    same = (assignment.manifest_sha256, assignment.action) == (last.manifest_sha256, last.action)
    if assignment.counter < last.counter or (assignment.counter == last.counter and not same):
        raise CounterError(f"counter {assignment.counter} after {last.counter} was acted on")
    now = max(trusted_time, assignment.issued_at) if trusted_time else assignment.issued_at
    if now > assignment.expires_at + EXPIRY_SLACK:
        raise ExpiredError(
            f"expired at {assignment.expires_at.isoformat()}, time is {now.isoformat()}"
        )


def check_manifest(manifest: Manifest, *, assignment: Assignment, agent_version: str) -> None:
    """Rules 2, 4 and 6 for the manifest an assignment brought; raises the rule's error."""
    if manifest.digest != assignment.manifest_sha256:
        raise ManifestMismatchError(
            f"assignment names manifest {assignment.manifest_sha256}, got {manifest.digest}"
        )
    if manifest.model != assignment.model:
        raise WrongModelError(f"manifest is of {manifest.model}, assignment of {assignment.model}")
    if manifest.sequence < assignment.floor_sequence:
        raise FloorError(
            f"sequence {manifest.sequence} is below the floor {assignment.floor_sequence}"
        )
    needed = str(manifest.document.get("min_agent_version") or "0")
    if parse_version(agent_version) < parse_version(needed):
        raise AgentTooOldError(f"release needs agent {needed}, this is {agent_version}")


def parse_version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, four of them: `1.2rc1` is (1, 2, 0, 0)."""
    match = re.match(r"\d+(\.\d+){0,3}", text)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    return tuple([*numbers, 0, 0, 0, 0][:4])


def _parse_document(payload: bytes, schema: str) -> dict[str, Any]:
    def refuse(text: str) -> float:
        raise DocumentError(f"{text} is not allowed")

    try:
        document = json.loads(payload.decode("utf-8"), parse_constant=refuse)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DocumentError(f"payload is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise DocumentError(f"expected schema {schema}")
    return document


def _parse_file(row: Any) -> ManifestFile:
    if not isinstance(row, dict):
        raise DocumentError("files: expected objects")
    path, role = _text(row, "path"), _text(row, "role")
    sha256, size = _text(row, "sha256"), _integer(row, "size_bytes")
    if "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise DocumentError(f"files: unsafe path {path!r}")
    if role not in ROLES:
        raise DocumentError(f"files: unknown role {role!r}")
    if not DIGEST.fullmatch(sha256):
        raise DocumentError(f"files: sha256 of {path} is not a lower-case digest")
    return ManifestFile(path, role, sha256, size)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise DocumentError(f"{name}: expected text, got {value!r}")
    return value


def _integer(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    if type(value) is not int or value < 0 or not math.isfinite(value):
        raise DocumentError(f"{name}: expected an integer of 0 or more, got {value!r}")
    return value


def _time(document: Mapping[str, Any], name: str) -> datetime:
    try:
        value = datetime.fromisoformat(_text(document, name))
    except ValueError as error:
        raise DocumentError(f"{name}: {error}") from error
    if value.year not in YEARS:
        # A day more or less must still be a date, whatever the offset.
        raise DocumentError(f"{name}: expected a year of 1970 to 9998, got {value.year}")
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _decode_base64(value: Any, name: str) -> bytes:
    if not isinstance(value, str):
        raise EnvelopeError(f"{name} is not text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"{name} is not base64: {error}") from error
