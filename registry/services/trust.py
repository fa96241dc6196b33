"""The root of trust: publishing what offline keys signed, and reading it."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.db.models import Max
from nacl.signing import SigningKey
from tuf.api.metadata import Metadata, Root, Targets

from registry.exceptions import ConflictError, NotFoundError, TrustMetadataError
from registry.keys import known_keys, sign_document, sign_message
from registry.manifest import MANIFEST_TYPE
from registry.models import TrustMetadata, Variant
from registry.services.audit import record_event
from registry.services.trust_renewal import latest, lock_trust, renew_online, store_metadata
from registry.signer.keys import create_key, read_key
from registry.signer.policy import TRUST_ROOT_TYPE
from registry.signing import key_id, sign_envelope
from registry.trust import metadata as tuf

logger = logging.getLogger(__name__)
_HINT = "trust:versions"


def newest_root(*, now: datetime) -> dict[str, Any] | None:
    """The root for a device that enrols; None while nobody has made one.

    An embedded server, which signs by itself, makes its own with the first device: its offline keys
    lie beside the others, in `offline/`.
    """
    row = latest("root")
    if row is None and not settings.AVIARY_SIGNER:
        row = _begin_embedded(now)
    return json.loads(bytes(row.body)) if row else None


def trust_hint() -> dict[str, int]:
    """The newest versions of root and targets, a minute old at most; empty before there is a root.

    No signature covers it: it only makes a device ask.
    """
    try:
        known: dict[str, int] | None = cache.get(_HINT)
        if known is None:
            known = _read_versions()
            cache.set(_HINT, known, 60)
    except Exception:
        # Whatever cache is in use, and however it fails: a hint is worth no failed poll.
        logger.exception("The hint of the root of trust could not be remembered")
        return {}
    return known


def _read_versions() -> dict[str, int]:
    rows = (
        TrustMetadata.objects.filter(role__in=tuf.OFFLINE_ROLES)
        .values("role")
        .annotate(newest=Max("version"))
        .values_list("role", "newest")
    )
    return dict(rows)


@transaction.atomic
def publish_root(*, data: bytes, actor: str, now: datetime) -> TrustMetadata:
    """A root that enough offline keys signed, from now on handed to devices.

    Raises:
        TrustMetadataError: devices that believe the last root would not believe this one.
    """
    lock_trust()
    root = _decode(data, Root)
    previous = latest("root")
    tuf.check_root(root, tuf.decode(bytes(previous.body)) if previous else None)
    for role in tuf.ONLINE_ROLES:
        names = {key.hex() for key in known_keys(role)[:1]}
        if not names <= {key.hex() for key in tuf.role_keys(root.signed, role)}:
            raise TrustMetadataError(
                f"The root does not name the key with which this server signs {role}"
            )
    row = store_metadata("root", root, now)
    record_event(
        actor=actor,
        action="trust.root_published",
        obj=row,
        summary=f"Root {row.version} with {len(root.signed.roles['root'].keyids)} keys, "
        f"{root.signed.roles['root'].threshold} of them sign",
        details={"keyids": root.signed.roles["root"].keyids},
    )
    return row


@transaction.atomic
def publish_targets(*, data: bytes, actor: str, now: datetime) -> TrustMetadata:
    """Delegations that the offline targets keys signed; snapshot and timestamp follow at once.

    Raises:
        TrustMetadataError: devices would not believe them, or they leave this server without a
            key that devices believe.
    """
    lock_trust()
    root = latest("root")
    if root is None:
        raise TrustMetadataError("There is no root yet: publish one first")
    targets = _decode(data, Targets)
    previous = latest("targets")
    tuf.check_targets(
        targets, tuf.decode(bytes(root.body)).signed, previous.version if previous else 0
    )
    for role, online in tuf.DELEGATED.items():
        if known_keys(online)[0] not in tuf.delegated_keys(targets.signed, role):
            raise TrustMetadataError(
                f"Targets do not name the {online} key with which this server signs"
            )
    row = store_metadata("targets", targets, now)
    record_event(
        actor=actor,
        action="trust.targets_published",
        obj=row,
        summary=f"Delegations {row.version}: "
        + ", ".join(
            f"{len(tuf.delegated_keys(targets.signed, role))} {role} keys" for role in tuf.DELEGATED
        ),
    )
    renew_online(now=now, is_forced=True)
    return row


def introduce_root() -> dict[str, Any]:
    """The newest root in an envelope by the manifest *and* the assignment key.

    A device that enrolled before there was a root believes those two keys, and nobody else.
    """
    root = latest("root")
    if root is None:
        raise NotFoundError("There is no root of trust yet")
    signers = [partial(sign_message, role) for role in ("manifest", "assignment")]
    return sign_envelope(bytes(root.body), TRUST_ROOT_TYPE, *signers)


def read_file(name: str) -> tuple[bytes, bool]:
    """A metadata file by the name TUF gives it, and whether that name never changes its content.

    Raises:
        NotFoundError: there is none.
    """
    stem = name.removesuffix(".json")
    number, _, role = stem.partition(".")
    if name == "timestamp.json":
        row = latest("timestamp")
    elif role and number.isascii() and number.isdigit() and len(number) < 10:
        row = TrustMetadata.objects.filter(role=role, version=int(number)).first()
    else:
        row = None
    if row is None or not name.endswith(".json"):
        raise NotFoundError(f"There is no trust metadata {name[:200]}")
    return bytes(row.body), name != "timestamp.json"


def read_manifest(manifest_sha256: str) -> bytes:
    """The payload of a release's manifest: the TUF target of that digest."""
    variant = Variant.objects.filter(manifest_sha256=manifest_sha256).first()
    if variant is None:
        raise NotFoundError(f"There is no manifest {manifest_sha256[:64]}")
    return base64.b64decode(variant.envelope["payload"])


@transaction.atomic
def begin_trust(
    *,
    root_keys: Sequence[bytes],
    targets_keys: Sequence[bytes],
    threshold: int,
    sign: Mapping[bytes, Callable[[bytes], tuple[bytes, bytes]]],
    actor: str,
    now: datetime,
) -> TrustMetadata:
    """The first root and delegations, with private keys that are at hand.

    Args:
        sign: public key to what signs with it.

    Raises:
        ConflictError: there is a root.
    """
    # Before the look: two devices that enrol at once would both find none.
    lock_trust()
    if latest("root") is not None:
        raise ConflictError("There is a root of trust already; `trust prepare` makes the next one")
    root = tuf.make_root(
        None,
        keys={
            "root": root_keys,
            "targets": targets_keys,
            **{role: known_keys(role)[:1] for role in tuf.ONLINE_ROLES},
        },
        thresholds={"root": threshold},
        now=now,
    )
    targets = tuf.make_targets(1, delegated=online_delegations(), now=now)
    for public in root_keys:
        tuf.add_signature(root, sign[public])
    for public in targets_keys:
        tuf.add_signature(targets, sign[public])
    row = publish_root(data=tuf.encode(root), actor=actor, now=now)
    publish_targets(data=tuf.encode(targets), actor=actor, now=now)
    return row


def online_delegations() -> dict[str, list[bytes]]:
    """Delegated role to the keys that the signing service has for it."""
    return {role: known_keys(online) for role, online in tuf.DELEGATED.items()}


def sign_again(*, actor: str) -> int:
    """Signs with today's key every manifest that only a key out of use had signed.

    The payloads, and so the identities of the releases, stay. Needed after a revocation, so that
    devices may go back to releases of before.
    """
    active = key_id(known_keys("manifest")[0])
    changed = 0
    for variant in Variant.objects.filter(manifest_sha256__isnull=False).iterator():
        rows = (variant.envelope or {}).get("signatures", [])
        if not rows or any(row.get("keyid") == active for row in rows):
            continue
        payload = base64.b64decode(variant.envelope["payload"])
        variant.envelope = sign_document("manifest", payload, MANIFEST_TYPE)
        Variant.objects.filter(pk=variant.pk).update(envelope=variant.envelope)
        changed += 1
    if changed:
        record_event(
            actor=actor,
            action="trust.manifests_signed_again",
            obj=latest("root"),
            summary=f"{changed} manifests signed with {active[:12]}",
        )
    return changed


def _decode(data: bytes, kind: type) -> Metadata:
    found = tuf.decode(data)
    if not isinstance(found.signed, kind):
        raise TrustMetadataError(f"Expected {kind.__name__}; got {type(found.signed).__name__}")
    return found


@transaction.atomic
def _begin_embedded(now: datetime) -> TrustMetadata | None:
    # Many devices may enrol at the same moment: one call makes keys and root, the others find them.
    lock_trust()
    if (found := latest("root")) is not None:
        return found
    folder = Path(settings.AVIARY_KEYS_DIR) / "offline"
    keys = {}
    for name in tuf.OFFLINE_ROLES:
        if not (folder / f"{name}.key").exists():
            create_key(folder / f"{name}.key")
        keys[name] = SigningKey(read_key(folder / f"{name}.key"))
    try:
        with transaction.atomic():
            return begin_trust(
                root_keys=[bytes(keys["root"].verify_key)],
                targets_keys=[bytes(keys["targets"].verify_key)],
                threshold=1,
                sign={bytes(key.verify_key): sign_with(key) for key in keys.values()},
                actor="system",
                now=now,
            )
    except (ConflictError, IntegrityError):
        return latest("root")  # another process was first


def sign_with(key: SigningKey) -> Callable[[bytes], tuple[bytes, bytes]]:
    """What signs with a private key at hand."""
    return lambda message: (bytes(key.verify_key), key.sign(message).signature)
