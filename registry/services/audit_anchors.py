"""The audit chain's ends, signed and kept outside the database.

Who owns the database could rewrite the whole chain, digests and all, or cut its end off. Signed
ends in the object store stand against that: each says how many events there were and the digest of
the last, and names the anchor before it, so that one that was taken away is missed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from registry.exceptions import AuditChainError, EnvelopeInvalidError
from registry.keys import known_keys, sign_document
from registry.manifest import canonical_bytes
from registry.models import AuditHead
from registry.signer.policy import AUDIT_ANCHOR_TYPE
from registry.signing import ALGORITHM, key_id, verify_envelope

FOLDER = "audit/anchors"
ROLE = "audit"
_NAME = re.compile(r"(\d{12})-([0-9a-f]{16})\.json")
_MOST_BYTES = 16 * 1024


@dataclass(frozen=True)
class Anchor:
    """One signed end of the chain.

    Attributes:
        name: in the store; names sort by the number of events.
        count: how many events there were.
        digest: of the last of them.
        previous: the name of the anchor before, or empty.
        restored: why the chain goes on from an earlier end, as after a backup; mostly empty.
    """

    name: str
    count: int
    digest: str
    at: datetime
    previous: str
    restored: str


def anchor_chain(*, now: datetime, restored: str = "") -> str | None:
    """The name of the anchor that was written; None where the last one says the same already.

    Args:
        restored: a reason, once after a restore: anchors past this end are then known to be lost.
    """
    head = AuditHead.objects.filter(pk=1).first()
    if head is None:
        return None
    names = anchor_names()
    name = f"{head.count:012d}-{head.digest[:16]}.json"
    if name in names and not restored:
        return None
    document = {
        "schema": "aviary.audit-anchor/1",
        "count": head.count,
        "digest": head.digest,
        "at": now.astimezone(UTC).isoformat(timespec="seconds"),
        # After a restore the newest one is of the lost branch, and is named all the same.
        "previous": names[-1] if names and names[-1] != name else "",
        "restored": restored,
    }
    envelope = sign_document(ROLE, canonical_bytes(document), AUDIT_ANCHOR_TYPE)
    path = f"{FOLDER}/{name}"
    if name in names:  # the very end that was anchored once and is gone back to now
        default_storage.delete(path)
    default_storage.save(path, ContentFile(json.dumps(envelope).encode()))
    return name


def anchor_names() -> list[str]:
    """The names of all anchors, the one of the fewest events first."""
    try:
        _, files = default_storage.listdir(FOLDER)
    except FileNotFoundError:
        return []
    return sorted(name for name in files if _NAME.fullmatch(name))


def read_anchors() -> list[Anchor]:
    """Every anchor, in the order in which they were made, once signatures have been verified.

    Raises:
        AuditChainError: one is not signed by the key of this role, is malformed, or is missing.
    """
    keys = [
        {
            "keyid": key_id(public),
            "algorithm": ALGORITHM,
            "public_key": base64.b64encode(public).decode("ascii"),
            "roles": [ROLE],
        }
        for public in known_keys(ROLE)
    ]
    found = [_read(name, keys) for name in anchor_names()]
    names = {anchor.name for anchor in found}
    for anchor in found:
        if anchor.previous and anchor.previous not in names:
            raise AuditChainError(
                f"The anchor {anchor.previous} is missing: {anchor.name} names it",
                {"missing": anchor.previous},
            )
    return sorted(found, key=lambda anchor: (anchor.at, anchor.name))


def expected_ends(anchors: list[Anchor]) -> dict[int, str]:
    """The digest that the chain must have after so many events.

    What a restored backup did not have any more is not expected: an anchor that says so voids the
    earlier ones past its own end.
    """
    expected: dict[int, str] = {}
    for anchor in anchors:
        if anchor.restored:
            expected = {count: digest for count, digest in expected.items() if count < anchor.count}
        if expected.setdefault(anchor.count, anchor.digest) != anchor.digest:
            raise AuditChainError(
                f"Two anchors name different ends after {anchor.count} events",
                {"anchor": anchor.name},
            )
    return expected


def restorations(anchors: list[Anchor]) -> Iterator[str]:
    """A line for each restore that the anchors tell of, for a person to know or not to know."""
    for anchor in anchors:
        if anchor.restored:
            yield f"{anchor.at:%Y-%m-%d %H:%M} restored to {anchor.count} events: {anchor.restored}"


def _read(name: str, keys: list[dict[str, Any]]) -> Anchor:
    try:
        with default_storage.open(f"{FOLDER}/{name}", "rb") as file:
            envelope = json.loads(file.read(_MOST_BYTES))
        payload = json.loads(verify_envelope(envelope, keys, AUDIT_ANCHOR_TYPE, role=ROLE))
        anchor = Anchor(
            name=name,
            count=int(payload["count"]),
            digest=str(payload["digest"]),
            at=datetime.fromisoformat(payload["at"]),
            previous=str(payload["previous"]),
            restored=str(payload["restored"]),
        )
    except (EnvelopeInvalidError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditChainError(f"The anchor {name} cannot be believed: {error}") from error
    if not name.startswith(f"{anchor.count:012d}-{anchor.digest[:16]}"):
        raise AuditChainError(f"The anchor {name} says another end than its name")
    return anchor
