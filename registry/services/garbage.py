"""Removing blobs that nothing refers to: mark by foreign keys, wait out a grace period, sweep."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from time import monotonic

from django.db.models import Exists, OuterRef, QuerySet

from registry.models import Blob
from registry.services.audit import record_event
from registry.services.blobs import discard_blob, referring_fields

GRACE = timedelta(hours=24)


def find_garbage(*, now: datetime, grace: timedelta = GRACE) -> QuerySet[Blob]:
    """Blobs that no row of any app has a foreign key to, last uploaded longer ago than `grace`.

    The grace covers uploads whose bytes are stored and whose rows are not yet written.
    """
    garbage = Blob.objects.filter(stored_at__lt=now - grace)
    for field in referring_fields():
        users = field.model._base_manager.filter(**{field.name: OuterRef("pk")})
        garbage = garbage.exclude(Exists(users))
    return garbage.order_by("pk")


def sweep_garbage(
    *, now: datetime, grace: timedelta = GRACE, seconds: float | None = None
) -> list[Blob]:
    """Removes garbage and notes in the audit log how much it was.

    Args:
        seconds: after which no further blob is begun; the next sweep goes on.
    """
    ends_at = None if seconds is None else monotonic() + seconds
    removed = []
    for blob in collect_garbage(now=now, grace=grace):
        removed.append(blob)
        if ends_at is not None and monotonic() >= ends_at:
            break
    if removed:
        record_event(
            actor="system",
            action="blobs.collected",
            obj=None,
            summary=f"{len(removed)} unused blob(s) were removed",
            details={
                "count": len(removed),
                "size_bytes": sum(blob.size_bytes for blob in removed),
            },
        )
    return removed


def collect_garbage(*, now: datetime, grace: timedelta = GRACE) -> Iterator[Blob]:
    """Removes garbage one blob at a time and yields what was removed.

    Each blob is looked at again under its lock: one that came into use meanwhile stays.
    """
    for blob in find_garbage(now=now, grace=grace).iterator():
        if discard_blob(sha256=blob.pk):
            yield blob
