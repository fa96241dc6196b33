"""What each online key may sign: bytes in, a refusal or nothing out; pure.

A web server that was taken over can ask for signatures, so a request says nothing that is believed:
the message itself is read. A manifest key signs manifests and the lists of them, an assignment key
assignments that end within `MAX_ASSIGNMENT`, the snapshot and timestamp keys metadata of their own
kind that ends within `MAX_METADATA`, the audit key ends of the audit chain. Nothing here can sign a
root or say which keys a role has: their keys are offline.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

ROLES = ("manifest", "assignment", "snapshot", "timestamp", "audit")
MANIFEST_TYPE = "application/vnd.aviary.manifest.v1+json"
ASSIGNMENT_TYPE = "application/vnd.aviary.assignment.v1+json"
AUDIT_ANCHOR_TYPE = "application/vnd.aviary.audit-anchor.v1+json"
TRUST_ROOT_TYPE = "application/vnd.aviary.trust-root.v1+json"
MAX_ASSIGNMENT = timedelta(days=15)
MAX_METADATA = {
    "targets": timedelta(days=400),
    "snapshot": timedelta(days=31),
    "timestamp": timedelta(days=15),
}
MAX_MESSAGE_BYTES = 8 << 20

_PAE = re.compile(rb"DSSEv1 (\d{1,4}) ([\x21-\x7e]{1,200}) (\d{1,9}) ")
_DSSE_TYPES = {
    "manifest": {MANIFEST_TYPE, TRUST_ROOT_TYPE},
    "assignment": {ASSIGNMENT_TYPE, TRUST_ROOT_TYPE},
    "audit": {AUDIT_ANCHOR_TYPE},
}
_TUF_KINDS = {"manifest": "targets", "snapshot": "snapshot", "timestamp": "timestamp"}


class RefusedError(Exception):
    """The message is not one that this role may sign."""


def check_message(role: str, message: bytes, *, now: datetime) -> str:
    """What the message is, in a few words for the log.

    Raises:
        RefusedError: the role may not sign it; the message says why.
    """
    if role not in ROLES:
        raise RefusedError(f"expected a role of {', '.join(ROLES)}; got {role!r}")
    if len(message) > MAX_MESSAGE_BYTES:
        raise RefusedError(f"expected at most {MAX_MESSAGE_BYTES} bytes; got {len(message)}")
    envelope = _PAE.match(message)
    if envelope is not None:
        return _check_envelope(role, envelope, message, now)
    return _check_metadata(role, message, now)


def _check_envelope(role: str, match: re.Match[bytes], message: bytes, now: datetime) -> str:
    kind, payload = match.group(2).decode("ascii"), message[match.end() :]
    if int(match.group(1)) != len(kind) or int(match.group(3)) != len(payload):
        raise RefusedError("the lengths of the envelope are wrong")
    if kind not in _DSSE_TYPES.get(role, ()):
        raise RefusedError(f"the role {role} does not sign {kind}")
    document = _parse(payload)
    if kind == ASSIGNMENT_TYPE:
        _check_end(document.get("expires_at"), MAX_ASSIGNMENT, now)
        return f"assignment {document.get('assignment_id')} of {document.get('device_id')}"
    if kind == MANIFEST_TYPE:
        return f"manifest of {document.get('model')} {document.get('version')}"
    if kind == AUDIT_ANCHOR_TYPE:
        return f"end of the audit chain after {document.get('count')} events"
    return "introduction of a root"


def _check_metadata(role: str, message: bytes, now: datetime) -> str:
    document = _parse(message)
    kind = document.get("_type")
    if role not in _TUF_KINDS or kind != _TUF_KINDS[role]:
        raise RefusedError(f"the role {role} does not sign metadata of kind {kind!r}")
    if kind == "targets" and (document.get("delegations") or {}).get("roles"):
        # It may spread its own list over bins; it may not let other keys speak.
        raise RefusedError("the role manifest delegates to no role of another name")
    _check_end(document.get("expires"), MAX_METADATA[str(kind)], now)
    return f"{kind} {document.get('version')}"


def _parse(payload: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(payload.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise RefusedError(f"the message is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RefusedError(f"expected an object; got {type(document).__name__}")
    return document


def _check_end(value: Any, most: timedelta, now: datetime) -> None:
    try:
        end = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise RefusedError(f"expected a time of expiry; got {value!r}") from error
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if end > now + most:
        raise RefusedError(f"expected an end within {most.days} days; got {value}")
