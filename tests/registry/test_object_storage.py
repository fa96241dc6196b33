"""Blobs in an S3 server: put, read back, offered by presigned address, removed."""

import hashlib
import io
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from django.conf import settings as django_settings

from registry.exceptions import BlobMissingError, DigestMismatchError
from registry.models import Blob
from registry.services import blobs
from tests.factories.registry import make_version

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        not django_settings.AVIARY_S3_BUCKET,
        reason="no S3 server: run through `python -m servers --`",
    ),
]
OBJECT_STORAGE = dict(django_settings.STORAGES["default"])
DATA = b"object storage" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def object_storage(home: Any, settings: Any) -> None:
    """The S3 storage of the settings instead of the folder of the other tests."""
    settings.STORAGES = {**settings.STORAGES, "default": OBJECT_STORAGE}


def store(**over: Any) -> Blob:
    return blobs.store_blob(**{"stream": io.BytesIO(DATA), "max_bytes": 10**6, **over})


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def test_bytes_are_put_once_read_back_and_removed() -> None:
    assert store().pk == store().pk == DIGEST
    with blobs.open_blob(DIGEST) as handle:
        assert handle.read() == DATA
    assert blobs.discard_blob(sha256=DIGEST)
    with pytest.raises(BlobMissingError):
        blobs.open_blob(DIGEST)


def test_a_wrong_digest_puts_nothing() -> None:
    with pytest.raises(DigestMismatchError):
        store(expected_sha256="0" * 64)
    with pytest.raises(BlobMissingError):
        blobs.open_blob(DIGEST)


def test_a_presigned_address_serves_ranges_and_cannot_be_changed() -> None:
    store()
    url = blobs.blob_url(sha256=DIGEST, ttl_seconds=60, request_base="http://unused")
    assert not url.startswith("http://unused")
    assert get(url) == (200, DATA)
    assert get(url, Range="bytes=5-9") == (206, DATA[5:10])
    assert get(url.replace(DIGEST, "0" * 64))[0] in (403, 404)
    assert get(url.split("?")[0])[0] == 403
    blobs.discard_blob(sha256=DIGEST)


def test_a_presigned_address_expires() -> None:
    store()
    url = blobs.blob_url(sha256=DIGEST, ttl_seconds=1, request_base="http://unused")
    time.sleep(2.1)
    assert get(url)[0] in (400, 403)
    blobs.discard_blob(sha256=DIGEST)


def test_a_version_is_validated_from_object_storage() -> None:
    version = make_version()
    assert version.variants.get().manifest_sha256
