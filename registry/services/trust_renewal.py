"""Signing again what online keys sign of the root of trust: new, changed or old files."""

from __future__ import annotations

import base64
from collections import ChainMap, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

from django.db import connection, transaction
from django.db.models import Exists, Max, OuterRef
from tuf.api.metadata import Metadata

from registry.keys import known_keys, sign_message
from registry.models import TrustMetadata, Variant
from registry.trust import metadata as tuf

RENEW_PART = 3
"""Online metadata is signed again once a third of its life is over."""
KEPT = timedelta(days=7)
"""How long a file stays readable after a newer one followed it."""
_LOCK = 0x7EF0


def latest(role: str) -> TrustMetadata | None:
    """The newest version of a role's file."""
    return TrustMetadata.objects.filter(role=role).order_by("-version").first()


@transaction.atomic
def renew_online(*, now: datetime, is_forced: bool = False) -> int:
    """Signs again what is new or old of the online metadata; the number of files written.

    Nothing is written before there are targets.
    """
    lock_trust()
    if latest("targets") is None:
        return 0
    written = _renew_manifests(now, is_forced=is_forced)
    versions = dict(
        TrustMetadata.objects.exclude(role__in=("root", "snapshot", "timestamp"))
        .values("role")
        .annotate(newest=Max("version"))
        .values_list("role", "newest")
    )
    snapshot = latest("snapshot")
    known = tuf.read_snapshot(bytes(snapshot.body)) if snapshot else {}
    if known != versions or _is_old(snapshot, "snapshot", now) or is_forced:
        unsigned = tuf.make_snapshot(_next(snapshot), versions, now)
        snapshot = _sign_and_store("snapshot", unsigned, "snapshot", now)
        written += 1
    timestamp = latest("timestamp")
    assert snapshot is not None
    told = tuf.decode(bytes(timestamp.body)).signed.snapshot_meta.version if timestamp else 0
    if told != snapshot.version or _is_old(timestamp, "timestamp", now) or is_forced:
        _sign_and_store(
            "timestamp",
            tuf.make_timestamp(_next(timestamp), snapshot.version, now),
            "timestamp",
            now,
        )
        written += 1
    _prune(now)
    return written


def store_metadata(role: str, signed: Metadata, now: datetime) -> TrustMetadata:
    """Keeps a signed file as that version of its role."""
    return TrustMetadata.objects.create(
        role=role,
        version=signed.signed.version,
        body=tuf.encode(signed),
        expires_at=signed.signed.expires,
        created_at=now,
    )


def lock_trust() -> None:
    """One writer at a time: two would make the same version."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _renew_manifests(now: datetime, *, is_forced: bool) -> int:
    """Writes the list of bins and each bin whose releases changed or that grows old."""
    written = 0
    manifests = latest("manifests")
    if _is_old(manifests, "manifests", now) or is_forced:
        unsigned = tuf.make_manifests(_next(manifests), known_keys("manifest"), now)
        _sign_and_store("manifests", unsigned, "manifest", now)
        written += 1
    newest: dict[str, TrustMetadata] = {}
    for row in TrustMetadata.objects.filter(role__startswith=tuf.BIN_PREFIX).order_by("version"):
        newest[row.role] = row
    listed = {name: tuf.read_bin(bytes(row.body)) for name, row in newest.items()}
    wanted = _sizes_of_manifests(known=ChainMap(*listed.values()))
    for name in tuf.bin_names():
        known = newest.get(name)
        if listed.get(name) != wanted[name] or _is_old(known, "manifests", now) or is_forced:
            _sign_and_store(name, tuf.make_bin(_next(known), wanted[name], now), "manifest", now)
            written += 1
    return written


def _sizes_of_manifests(known: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Bin to the digests of its manifests and their sizes in bytes; only new payloads are read."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    released = Variant.objects.filter(manifest_sha256__isnull=False)
    new = []
    for digest in map(str, released.values_list("manifest_sha256", flat=True).iterator()):
        if digest in known:
            found[tuf.bin_of(tuf.target_name(digest))][digest] = known[digest]
        else:
            new.append(digest)
    for start in range(0, len(new), 500):
        batch = new[start : start + 500]
        for variant in released.filter(manifest_sha256__in=batch):
            digest = str(variant.manifest_sha256)
            payload = base64.b64decode(variant.envelope["payload"])
            found[tuf.bin_of(tuf.target_name(digest))][digest] = len(payload)
    return found


def _prune(now: datetime) -> None:
    """Forgets online files that newer ones have followed for `KEPT`; offline ones stay for ever."""
    online = TrustMetadata.objects.exclude(role__in=tuf.OFFLINE_ROLES)
    followed = TrustMetadata.objects.filter(
        role=OuterRef("role"), version__gt=OuterRef("version"), created_at__lt=now - KEPT
    )
    online.filter(Exists(followed)).delete()


def _sign_and_store(role: str, unsigned: Metadata, online: str, now: datetime) -> TrustMetadata:
    tuf.add_signature(unsigned, partial(sign_message, online))
    return store_metadata(role, unsigned, now)


def _next(row: TrustMetadata | None) -> int:
    return row.version + 1 if row else 1


def _is_old(row: TrustMetadata | None, role: str, now: datetime) -> bool:
    """True once a part of its life is over, so that nobody meets an expired file."""
    if row is None:
        return True
    return row.expires_at - now < tuf.LIFETIMES[role] * (RENEW_PART - 1) / RENEW_PART
