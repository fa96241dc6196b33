"""Deltas: asked for when a release is planned or polled for, made in the background, kept in use.

A poll only looks one up. One is made at a time in the whole installation, for making takes several
times the model's size in memory.
"""

import io
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from registry.exceptions import AviaryError
from registry.models import Blob, Delta, FileRole, VariantFile
from registry.patches import apply_patch, make_patch
from registry.services.blobs import open_blob, store_blob

logger = logging.getLogger(__name__)

MIN_BYTES = 4096
"""Below this a whole file costs no more than the request for it."""
MAX_SHARE = 0.5
"""A patch of half the file or more is not offered."""
CLAIM_TIMEOUT = timedelta(minutes=10)
RENEW_AFTER = timedelta(days=1)
KEEP = timedelta(days=30)
"""How long a delta that nobody asks for any more is kept."""


def find_delta(*, base_manifest: str, target_sha256: str) -> Delta | None:
    """The delta from the model file of a release to `target_sha256`, ready to use; one query."""
    bases = VariantFile.objects.filter(
        role=FileRole.MODEL, variant__manifest_sha256=base_manifest
    ).values("blob_id")
    return (
        Delta.objects.filter(
            state=Delta.State.READY, target_sha256=target_sha256, base_sha256__in=bases
        )
        .select_related("patch")
        .first()
    )


def queue_deltas(pairs: Iterable[tuple[str, str]]) -> int:
    """How many deltas were queued for (base, target) pairs of manifest digests.

    Pairs that have one, whose model files are equal, missing, too small or above
    `AVIARY_DELTA_MAX_BYTES` queue nothing.
    """
    wanted = set(pairs)
    files = {
        str(file.variant.manifest_sha256): file.blob
        for file in VariantFile.objects.filter(
            role=FileRole.MODEL,
            variant__manifest_sha256__in={digest for pair in wanted for digest in pair},
        ).select_related("variant", "blob")
    }
    blobs = {
        (files[base].pk, files[target].pk)
        for base, target in wanted
        if base in files and target in files and _is_worth_trying(files[base], files[target])
    }
    if not blobs:
        return 0
    named = Q()
    for base, target in blobs:
        named |= Q(base_sha256=base, target_sha256=target)
    now = timezone.now()
    Delta.objects.filter(named, requested_at__lt=now - RENEW_AFTER).update(requested_at=now)
    known = set(Delta.objects.filter(named).values_list("base_sha256", "target_sha256"))
    missing = blobs - known
    Delta.objects.bulk_create(
        [Delta(base_sha256=base, target_sha256=target) for base, target in sorted(missing)],
        ignore_conflicts=True,
    )
    return len(missing)


def make_next_delta(*, now: datetime) -> Delta | None:
    """One queued delta as it came out, the oldest first; None when there is nothing to do.

    Safe to call twice at once: one caller claims the row, the other gets None.
    """
    stale = now - CLAIM_TIMEOUT
    waiting = Delta.objects.filter(
        Q(state=Delta.State.QUEUED) | Q(state=Delta.State.MAKING, started_at__lt=stale)
    ).order_by("pk")
    delta = waiting.first()
    if delta is None:
        return None
    busy = Delta.objects.filter(state=Delta.State.MAKING, started_at__gte=stale)
    if busy.exists():
        return None
    # Claimed by a conditional update that must change exactly one row.
    claimed = waiting.filter(pk=delta.pk, attempts=delta.attempts).update(
        state=Delta.State.MAKING, started_at=now, attempts=delta.attempts + 1
    )
    if claimed != 1:
        return None
    delta.refresh_from_db()
    try:
        if delta.attempts > Delta.MAX_ATTEMPTS:
            raise ValueError(f"not made in {Delta.MAX_ATTEMPTS} attempts")
        _make(delta)
    except (AviaryError, OSError, ValueError, MemoryError) as error:
        delta.state = Delta.State.FAILED
        delta.problem = f"{type(error).__name__}: {error}"[:300]
        logger.warning("Delta %s could not be made: %s", delta, delta.problem)
    delta.finished_at = timezone.now()
    delta.save()
    return delta


def prune_deltas(*, now: datetime) -> int:
    """How many deltas were removed: those whose files are gone or that nobody asks for any more.

    Their patches are garbage from then on, for `collect_garbage` to find.
    """
    base = Blob.objects.filter(pk=OuterRef("base_sha256"))
    target = Blob.objects.filter(pk=OuterRef("target_sha256"))
    stale = Delta.objects.filter(
        Q(requested_at__lt=now - KEEP) | ~Q(Exists(base)) | ~Q(Exists(target))
    )
    removed, _ = stale.delete()
    return removed


def _is_worth_trying(base: Blob, target: Blob) -> bool:
    largest = max(base.size_bytes, target.size_bytes)
    return (
        base.pk != target.pk
        and target.size_bytes >= MIN_BYTES
        and largest <= settings.AVIARY_DELTA_MAX_BYTES
    )


def _make(delta: Delta) -> None:
    with open_blob(delta.base_sha256) as stream:
        base = stream.read()
    with open_blob(delta.target_sha256) as stream:
        target = stream.read()
    patch = make_patch(base, target)
    if len(patch) >= MAX_SHARE * len(target):
        delta.state = Delta.State.NOT_WORTH_IT
        delta.problem = f"{len(patch)} of {len(target)} bytes"
        return
    if apply_patch(base, patch, size_bytes=len(target)) != target:
        raise ValueError("the patch made another file")
    delta.patch = store_blob(stream=io.BytesIO(patch), max_bytes=len(patch))
    delta.state = Delta.State.READY
    logger.info("Delta %s: %d of %d bytes", delta, len(patch), len(target))
