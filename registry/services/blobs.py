"""Bytes in and out of the storage: hashed while they stream, stored once, signed on the way out."""

import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import IntegrityError, transaction
from django.db.models import ForeignKey, ManyToOneRel
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from registry.exceptions import (
    BlobMissingError,
    DigestMismatchError,
    InvalidFieldError,
    NotFoundError,
    UploadTooLargeError,
)
from registry.manifest import is_sha256
from registry.models import Blob
from registry.storage_paths import blob_path

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1024 * 1024
_URL_SALT = "registry.blob_url"


class Readable(Protocol):
    """Anything with `read(n)`: an open file, an uploaded file, a response."""

    def read(self, n: int = -1, /) -> bytes: ...


def store_blob(*, stream: Readable, expected_sha256: str | None = None, max_bytes: int) -> Blob:
    """The blob of the stream's bytes; equal bytes are stored once.

    The bytes go to a staging file in pieces of 1 MiB while they are hashed, so memory stays
    constant; nothing is visible before the digest has been checked, and the staging file is
    removed whatever happens.

    Args:
        expected_sha256: what the bytes must hash to; None believes what arrives.
        max_bytes: the largest size that is taken.

    Raises:
        UploadTooLargeError, DigestMismatchError, InvalidFieldError: nothing was stored.
    """
    if expected_sha256 is not None and not is_sha256(expected_sha256):
        raise InvalidFieldError(
            "A digest is 64 lower-case hexadecimal digits", {"sha256": expected_sha256}
        )
    staged = staging_folder() / secrets.token_hex(16)
    try:
        sha256, size_bytes = _stage(stream, staged, max_bytes)
        if expected_sha256 is not None and sha256 != expected_sha256:
            raise DigestMismatchError(
                f"Expected SHA-256 {expected_sha256}; the {size_bytes} bytes that arrived have "
                f"{sha256}",
                {"expected": expected_sha256, "actual": sha256, "size_bytes": size_bytes},
            )
        return _publish(staged, sha256, size_bytes)
    finally:
        staged.unlink(missing_ok=True)


def open_blob(sha256: str) -> IO[bytes]:
    """The blob's bytes, open for reading; the caller closes.

    Raises:
        NotFoundError: not a digest. BlobMissingError: the storage has no such bytes.
    """
    if not is_sha256(sha256):
        raise NotFoundError("There is no such blob")
    try:
        return default_storage.open(blob_path(sha256), "rb")
    except FileNotFoundError as error:
        raise BlobMissingError(f"The storage has no bytes of {sha256}") from error


def copy_blob(*, sha256: str, target: Path) -> None:
    """Writes the blob to a new file, checking its digest on the way."""
    digest = hashlib.sha256()
    with open_blob(sha256) as source, target.open("xb") as handle:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            handle.write(chunk)
    if digest.hexdigest() != sha256:
        target.unlink()
        raise DigestMismatchError(
            "The storage's bytes have changed",
            {"expected": sha256, "actual": digest.hexdigest()},
        )


@contextmanager
def private_folder() -> Iterator[Path]:
    """A fresh folder below the staging folder, removed at the end."""
    folder = staging_folder() / f"work-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def blob_url(*, sha256: str, ttl_seconds: int, request_base: str) -> str:
    """An address that gives the bytes to whoever holds it, until it expires.

    Args:
        request_base: scheme and host of this server, used with local file storage only.
    """
    if not isinstance(default_storage, FileSystemStorage) and _has_presigned_urls():
        storage: Any = default_storage
        return storage.url(blob_path(sha256), expire=ttl_seconds)
    expires = int(time.time()) + ttl_seconds
    query = f"expires={expires}&sig={_url_signature(sha256, expires)}"
    return f"{request_base.rstrip('/')}/blobs/{sha256}?{query}"


def is_url_valid(*, sha256: str, expires: str, signature: str, now: float) -> bool:
    """True when `blob_url` made this address and it has not expired."""
    if not expires.isascii() or not expires.isdigit() or len(expires) > 15 or int(expires) < now:
        return False
    return constant_time_compare(_url_signature(sha256, int(expires)), signature)


def discard_blob(*, sha256: str) -> bool:
    """Removes a blob that nothing refers to; False when something does."""
    with transaction.atomic():
        # The lock makes a concurrent upload of the same bytes wait, then store them anew.
        blob = Blob.objects.select_for_update().filter(pk=sha256).first()
        if blob is None or is_referenced(blob):
            return False
        default_storage.delete(blob_path(sha256))
        blob.delete()
    logger.info("Removed blob %s of %d bytes", sha256, blob.size_bytes)
    return True


def is_referenced(blob: Blob) -> bool:
    """True when a row of any app has a foreign key to the blob."""
    return any(
        field.model._base_manager.filter(**{field.name: blob}).exists()
        for field in referring_fields()
    )


def referring_fields() -> list[ForeignKey]:
    """Every foreign key to a blob in any app, those without a reverse name included."""
    return [
        relation.field
        for relation in Blob._meta.get_fields(include_hidden=True)
        if isinstance(relation, ManyToOneRel)
    ]


def _has_presigned_urls() -> bool:
    # A lazy object hides its class from isinstance on some paths; ask for the ability instead.
    return hasattr(default_storage, "bucket_name")


def _url_signature(sha256: str, expires: int) -> str:
    return salted_hmac(_URL_SALT, f"{sha256}:{expires}", algorithm="sha256").hexdigest()


def staging_folder() -> Path:
    """Where bytes lie until they are known."""
    if isinstance(default_storage, FileSystemStorage):
        # On the same file system as the blobs, so that publishing is a rename.
        folder = Path(default_storage.location) / "staging"
    else:
        folder = Path(settings.AVIARY_HOME) / "staging"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _stage(stream: Readable, staged: Path, max_bytes: int) -> tuple[str, int]:
    digest = hashlib.sha256()
    size_bytes = 0
    with staged.open("xb") as handle:
        while chunk := stream.read(CHUNK_BYTES):
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise UploadTooLargeError(
                    f"At most {max_bytes} bytes are taken", {"max_bytes": max_bytes}
                )
            digest.update(chunk)
            handle.write(chunk)
        handle.flush()
        os.fsync(handle.fileno())
    return digest.hexdigest(), size_bytes


def _publish(staged: Path, sha256: str, size_bytes: int) -> Blob:
    return publish_bytes(sha256, size_bytes, lambda name: _put(staged, name))


def publish_bytes(sha256: str, size_bytes: int, put: Callable[[str], None]) -> Blob:
    """The blob of bytes whose digest was checked; `put` brings them under the name it is given.

    It is not called where the storage has them.
    """
    name = blob_path(sha256)
    # Touching the row takes its lock: garbage collection either sees the new time, or has
    # removed the row before this line, and then the bytes are put again.
    known = Blob.objects.filter(pk=sha256).update(stored_at=timezone.now())
    if not (known and default_storage.exists(name)):
        put(name)
    if known:
        return Blob.objects.get(pk=sha256)
    try:
        with transaction.atomic():
            return Blob.objects.create(sha256=sha256, size_bytes=size_bytes)
    except IntegrityError:
        return Blob.objects.get(pk=sha256)


def _put(staged: Path, name: str) -> None:
    if isinstance(default_storage, FileSystemStorage):
        final = Path(default_storage.path(name))
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, final)
        return
    with staged.open("rb") as handle:
        saved = default_storage.save(name, File(handle, name=name))
    if saved != name:
        # A storage that never overwrites has the same bytes under the right name already.
        default_storage.delete(saved)
