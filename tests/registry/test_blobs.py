"""Blobs: stored once, only when their digest is right, and removed only when unused."""

import hashlib
import io
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command
from django.utils import timezone

from registry.exceptions import (
    BlobMissingError,
    DigestMismatchError,
    InvalidFieldError,
    NotFoundError,
    UploadTooLargeError,
)
from registry.models import Blob
from registry.services import blobs
from registry.services.garbage import collect_garbage, find_garbage
from tests.factories.registry import make_upload
from tests.registry.conftest import stored_files

pytestmark = pytest.mark.django_db
DATA = b"some bytes" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


def store(data: bytes = DATA, **over: object) -> Blob:
    return blobs.store_blob(**{"stream": io.BytesIO(data), "max_bytes": 10**6, **over})  # type: ignore[arg-type]


def test_bytes_are_stored_under_their_digest_and_read_back(home: Path) -> None:
    blob = store(expected_sha256=DIGEST)
    assert (blob.sha256, blob.size_bytes) == (DIGEST, len(DATA))
    with blobs.open_blob(DIGEST) as handle:
        assert handle.read() == DATA
    path = home / "objects" / "blobs" / "sha256" / DIGEST[:2] / DIGEST[2:4] / DIGEST
    assert stored_files(home) == [path]


def test_equal_bytes_are_one_blob(home: Path) -> None:
    store()
    store()
    assert Blob.objects.count() == 1
    assert len(stored_files(home)) == 1


def test_bytes_lost_by_the_storage_are_put_again(home: Path) -> None:
    store()
    stored_files(home)[0].unlink()
    with pytest.raises(BlobMissingError):
        blobs.open_blob(DIGEST)
    store()
    assert len(stored_files(home)) == 1


def test_a_wrong_digest_leaves_nothing(home: Path) -> None:
    with pytest.raises(DigestMismatchError) as caught:
        store(expected_sha256="0" * 64)
    assert caught.value.details["actual"] == DIGEST
    assert not Blob.objects.exists()
    assert stored_files(home) == []


def test_too_many_bytes_leave_nothing(home: Path) -> None:
    with pytest.raises(UploadTooLargeError):
        store(max_bytes=len(DATA) - 1)
    assert not Blob.objects.exists()
    assert stored_files(home) == []


def test_a_stream_that_breaks_leaves_nothing(home: Path) -> None:
    class Broken:
        def __init__(self) -> None:
            self.reads = 0

        def read(self, n: int = -1) -> bytes:
            self.reads += 1
            if self.reads > 2:
                raise OSError("connection reset")
            return b"x" * n

    with pytest.raises(OSError, match="reset"):
        blobs.store_blob(stream=Broken(), max_bytes=10**9)
    assert not Blob.objects.exists()
    assert stored_files(home) == []


def test_a_digest_that_is_none_is_refused_before_reading() -> None:
    with pytest.raises(InvalidFieldError):
        store(expected_sha256=DIGEST.upper())


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_only_digests_name_blobs(name: str) -> None:
    with pytest.raises(NotFoundError):
        blobs.open_blob(name)


def test_a_copy_is_checked_against_the_digest(home: Path) -> None:
    store()
    stored_files(home)[0].write_bytes(b"changed behind our back")
    with pytest.raises(DigestMismatchError):
        blobs.copy_blob(sha256=DIGEST, target=home / "copy")
    assert not (home / "copy").exists()


def test_garbage_waits_for_the_grace_period(home: Path) -> None:
    store()
    now = timezone.now()
    assert not find_garbage(now=now).exists()
    later = now + timedelta(hours=25)
    assert [blob.pk for blob in collect_garbage(now=later)] == [DIGEST]
    assert stored_files(home) == []
    assert not Blob.objects.exists()


def test_a_referenced_blob_is_never_garbage() -> None:
    version = make_upload()
    digest = version.variants.get().files.get().blob_id
    later = timezone.now() + timedelta(days=365)
    assert list(collect_garbage(now=later)) == []
    assert blobs.discard_blob(sha256=digest) is False


def test_a_dry_run_removes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store()
    call_command("collect_garbage", "--dry-run", "--grace-hours", "-1")
    assert "Would remove 1 blob(s)" in capsys.readouterr().out
    assert len(stored_files(home)) == 1
    call_command("collect_garbage", "--grace-hours", "-1")
    assert stored_files(home) == []


def test_memory_does_not_grow_with_the_upload() -> None:
    class Zeros:
        left = 64 * 1024 * 1024

        def read(self, n: int = -1) -> bytes:
            n = min(n, self.left)
            self.left -= n
            return bytes(n)

    tracemalloc.start()
    try:
        blob = blobs.store_blob(stream=Zeros(), max_bytes=10**9)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert blob.size_bytes == 64 * 1024 * 1024
    assert peak < 8 * 1024 * 1024


def test_every_foreign_key_to_a_blob_keeps_it() -> None:
    keys = {
        (model._meta.label, field.name)
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.get_fields()
        if getattr(field, "remote_field", None) and field.concrete and field.related_model is Blob
    }
    assert ("registry.VariantFile", "blob") in keys
    found = {(field.model._meta.label, field.name) for field in blobs.referring_fields()}
    assert found == keys
