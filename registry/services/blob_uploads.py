"""Uploads in parts: begun by digest, resumed by it, and checked against it at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from registry.exceptions import (
    ConflictError,
    DigestMismatchError,
    InvalidFieldError,
    NotFoundError,
    UploadIncompleteError,
    UploadTooLargeError,
)
from registry.manifest import is_sha256
from registry.models import Blob, BlobUpload
from registry.services.blobs import CHUNK_BYTES, Readable, publish_bytes
from registry.services.parts import FileParts, part_store

#: S3 takes parts from 5 MiB on, and at most 10,000 of them.
LEAST_PART_BYTES = 8 * 1024 * 1024
MOST_PARTS = 1000
#: Of one person at the same time.
MOST_OPEN = 32
#: Without a sign of the client.
LIFE = timedelta(hours=24)
CLAIM = timedelta(minutes=15)


def begin_upload(
    *, sha256: str, size_bytes: int, actor: str, may_reuse: bool
) -> tuple[Blob | None, BlobUpload | None]:
    """The blob when the storage has it, else an upload: the unfinished one of these bytes, or new.

    Args:
        may_reuse: the person may read what is stored, so may use it without sending it.

    Raises:
        InvalidFieldError, UploadTooLargeError, ConflictError: nothing was begun.
    """
    if not is_sha256(sha256):
        raise InvalidFieldError(
            "A digest is 64 lower-case hexadecimal digits", {"sha256": sha256[:100]}
        )
    if size_bytes < 1:
        raise InvalidFieldError(f"size_bytes is 1 or more; got {size_bytes}")
    if size_bytes > settings.AVIARY_MAX_UPLOAD_BYTES:
        raise UploadTooLargeError(
            f"At most {settings.AVIARY_MAX_UPLOAD_BYTES} bytes are taken; {size_bytes} would come",
            {"max_bytes": settings.AVIARY_MAX_UPLOAD_BYTES},
        )
    # Touching it keeps the collection of garbage away until a version names it.
    if may_reuse and Blob.objects.filter(pk=sha256).update(stored_at=timezone.now()):
        return Blob.objects.get(pk=sha256), None
    own = BlobUpload.objects.filter(created_by=actor)
    found = own.filter(sha256=sha256).first()
    if found is not None and found.size_bytes == size_bytes:
        BlobUpload.objects.filter(pk=found.pk).update(touched_at=timezone.now())
        return None, found
    if found is not None:
        drop_upload(found)
    if own.count() >= MOST_OPEN:
        raise ConflictError(
            f"You have {MOST_OPEN} unfinished uploads; finish one, or delete it", {"max": MOST_OPEN}
        )
    upload = BlobUpload(
        sha256=sha256,
        size_bytes=size_bytes,
        part_bytes=max(LEAST_PART_BYTES, -(-size_bytes // MOST_PARTS)),
        created_by=actor,
    )
    upload.storage_id = part_store().begin(upload.pk.hex)
    try:
        with transaction.atomic():
            upload.save(force_insert=True)
    except IntegrityError:
        # The same person began it elsewhere a moment ago.
        part_store().drop(upload.pk.hex, upload.storage_id)
        return None, BlobUpload.objects.get(sha256=sha256, created_by=actor)
    return None, upload


def find_upload(*, upload_id: Any, actor: str) -> BlobUpload:
    """The person's own unfinished upload. Raises NotFoundError."""
    found = BlobUpload.objects.filter(pk=upload_id, created_by=actor).first()
    if found is None:
        raise NotFoundError("There is no such unfinished upload of yours")
    return found


def received_parts(upload: BlobUpload) -> list[int]:
    """Numbers of the parts that have arrived whole, ascending."""
    sizes = part_store().sizes(upload.pk.hex, upload.storage_id)
    return sorted(
        number
        for number, size in sizes.items()
        if number <= upload.part_count and size == upload.part_size(number)
    )


def part_addresses(
    upload: BlobUpload, numbers: Sequence[int], *, here: str
) -> list[dict[str, Any]]:
    """Where to PUT each part, and its bytes.

    Args:
        here: address of this server's own upload, below which its parts are taken.
    """
    BlobUpload.objects.filter(pk=upload.pk).update(touched_at=timezone.now())
    store, rows = part_store(), []
    for number in numbers:
        if not 1 <= number <= upload.part_count:
            raise InvalidFieldError(f"Parts are 1 to {upload.part_count}; got {number}")
        url = store.address(
            upload.pk.hex, upload.storage_id, number, settings.AVIARY_URL_TTL_SECONDS
        )
        rows.append(
            {
                "number": number,
                "url": url or f"{here}parts/{number}/",
                "size_bytes": upload.part_size(number),
            }
        )
    return rows


def take_part(upload: BlobUpload, number: int, stream: Readable) -> None:
    """Keeps a part that a client sent to this server.

    Raises:
        InvalidFieldError: no such part, or the object store takes the parts.
        UploadIncompleteError: other bytes than the part has; nothing was kept.
    """
    store = part_store()
    if not isinstance(store, FileParts):
        raise InvalidFieldError("Parts of this upload go to the object store's addresses")
    if not 1 <= number <= upload.part_count:
        raise InvalidFieldError(f"Parts are 1 to {upload.part_count}; got {number}")
    size = upload.part_size(number)
    arrived = store.write(upload.pk.hex, number, stream, size)
    if arrived != size:
        more = " or more" if arrived > size else ""
        raise UploadIncompleteError(
            f"Part {number} has {size} bytes; {arrived}{more} arrived", {"expected": size}
        )
    BlobUpload.objects.filter(pk=upload.pk).update(touched_at=timezone.now())


def complete_upload(upload: BlobUpload) -> Blob:
    """The blob of all parts, read once more from the storage and checked against the digest.

    Raises:
        UploadIncompleteError: parts are missing; those that arrived stay.
        DigestMismatchError: these are other bytes; nothing of them stays.
        ConflictError: another call is putting it together.
    """
    missing = sorted(set(range(1, upload.part_count + 1)) - set(received_parts(upload)))
    now = timezone.now()
    store, key = part_store(), upload.pk.hex
    free = BlobUpload.objects.filter(Q(claimed_until=None) | Q(claimed_until__lte=now))
    if free.filter(pk=upload.pk).update(claimed_until=now + CLAIM) != 1:
        raise ConflictError("The upload is being put together; ask again in a moment")
    try:
        if missing and not store.is_joined(key):
            raise UploadIncompleteError(
                f"{len(missing)} of {upload.part_count} parts have not arrived",
                {"missing": missing[:100]},
            )
        digest, size = hashlib.sha256(), 0
        with store.open_joined(key, upload.storage_id) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        if (digest.hexdigest(), size) != (upload.sha256, upload.size_bytes):
            drop_upload(upload)
            raise DigestMismatchError(
                f"Expected {upload.size_bytes} bytes with SHA-256 {upload.sha256}; {size} bytes "
                f"with {digest.hexdigest()} arrived",
                {"expected": upload.sha256, "actual": digest.hexdigest(), "size_bytes": size},
            )
        blob = publish_bytes(upload.sha256, size, lambda name: store.move(key, name))
    finally:
        BlobUpload.objects.filter(pk=upload.pk).update(claimed_until=None)
    drop_upload(upload)
    return blob


def drop_upload(upload: BlobUpload) -> None:
    """Forgets the upload and its parts."""
    part_store().drop(upload.pk.hex, upload.storage_id)
    BlobUpload.objects.filter(pk=upload.pk).delete()


def drop_abandoned(*, now: datetime) -> int:
    """Forgets the uploads without a sign of their client for a day; how many."""
    old = list(BlobUpload.objects.filter(touched_at__lt=now - LIFE)[:100])
    for upload in old:
        drop_upload(upload)
    return len(old)
