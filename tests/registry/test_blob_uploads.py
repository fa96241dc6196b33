"""Uploads in parts: to files of this server, and straight to an S3 server."""

from __future__ import annotations

import hashlib
import random
import urllib.request
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from rest_framework.test import APIClient

from registry.models import Blob, BlobUpload, Version
from registry.services import blob_uploads, blobs
from tests.factories.registry import make_model, make_onnx

pytestmark = pytest.mark.django_db
OBJECT_STORAGE = dict(django_settings.STORAGES["default"])
MIB = 1024 * 1024
DATA = random.Random(7).randbytes(5 * MIB + 1000)
DIGEST = hashlib.sha256(DATA).hexdigest()
WHOLE = {"sha256": DIGEST, "size_bytes": len(DATA)}


@pytest.fixture(params=["files", "S3"], autouse=True)
def storage(
    request: pytest.FixtureRequest, home: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Either storage, with parts as small as an S3 server takes them."""
    monkeypatch.setattr(blob_uploads, "LEAST_PART_BYTES", 5 * MIB)
    if request.param == "S3":
        assert django_settings.AVIARY_S3_BUCKET, "run through `python -m servers --`"
        settings.STORAGES = {**settings.STORAGES, "default": OBJECT_STORAGE}
    return str(request.param)


def post(api: APIClient, path: str, body: dict[str, Any] | None = None) -> Any:
    return api.post(f"/api/v1/uploads/{path}", body or {}, format="json")


def put(api: APIClient, row: dict[str, Any], data: bytes) -> int:
    """As a client does: to the object store without the token, to this server with it."""
    if "/api/v1/" in row["url"]:
        path = row["url"][row["url"].index("/api/v1/") :]
        answer = api.put(path, data, content_type="application/octet-stream")
        return int(answer.status_code)
    with urllib.request.urlopen(urllib.request.Request(row["url"], data, method="PUT")) as answer:
        return int(answer.status)


def send(api: APIClient, upload: dict[str, Any], data: bytes, numbers: list[int]) -> None:
    size = upload["part_bytes"]
    for row in post(api, f"{upload['id']}/parts/", {"numbers": numbers}).json():
        part = data[(row["number"] - 1) * size :][: row["size_bytes"]]
        assert put(api, row, part) in (200, 204)


def test_an_upload_goes_on_where_it_stopped_and_the_bytes_are_sent_once(api: APIClient) -> None:
    begun = post(api, "", WHOLE)
    assert begun.status_code == 201
    upload = begun.json()
    assert (upload["part_count"], upload["received"]) == (2, [])
    send(api, upload, DATA, [2])
    early = post(api, f"{upload['id']}/complete/")
    assert early.status_code == 400 and early.json()["details"] == {"missing": [1]}
    again = post(api, "", WHOLE)
    assert again.status_code == 200
    assert again.json() == {**upload, "received": [2]}
    send(api, upload, DATA, [1])
    done = post(api, f"{upload['id']}/complete/")
    assert done.json()["state"] == "stored", done.json()
    with blobs.open_blob(DIGEST) as stream:
        assert stream.read() == DATA
    assert not BlobUpload.objects.exists()
    assert post(api, "", WHOLE).json()["state"] == "stored"
    assert api.get(f"/api/v1/uploads/{upload['id']}/").status_code == 404
    blobs.discard_blob(sha256=DIGEST)


def test_other_bytes_than_were_announced_leave_nothing(api: APIClient) -> None:
    upload = post(api, "", WHOLE).json()
    send(api, upload, bytes(len(DATA)), [1, 2])
    refused = post(api, f"{upload['id']}/complete/")
    assert (refused.status_code, refused.json()["code"]) == (400, "digest_mismatch")
    assert not BlobUpload.objects.exists() and not Blob.objects.exists()
    assert post(api, "", WHOLE).json()["received"] == []


def test_what_was_joined_before_a_crash_is_read_again(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = post(api, "", WHOLE).json()
    send(api, upload, DATA, [1, 2])

    def crash(*_: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(blob_uploads, "publish_bytes", crash)
        api.raise_request_exception = False
        assert post(api, f"{upload['id']}/complete/").status_code == 500
    assert post(api, f"{upload['id']}/complete/").json()["state"] == "stored"
    blobs.discard_blob(sha256=DIGEST)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"sha256": "x" * 64, "size_bytes": 1}, 400),
        ({"sha256": DIGEST, "size_bytes": 0}, 400),
        ({"sha256": DIGEST, "size_bytes": 10**15}, 413),
        ({"sha256": DIGEST}, 400),
        ({**WHOLE, "digest": ""}, 400),
    ],
)
def test_what_cannot_be_uploaded_is_refused(
    api: APIClient, body: dict[str, Any], status: int
) -> None:
    assert post(api, "", body).status_code == status
    assert not BlobUpload.objects.exists()


def test_unfinished_uploads_are_one_s_own_bounded_and_forgotten_after_a_day(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = post(api, "", WHOLE).json()
    other = APIClient()
    other.force_authenticate(User.objects.create_superuser("eve"))
    assert other.get(f"/api/v1/uploads/{upload['id']}/").status_code == 404
    assert post(other, f"{upload['id']}/complete/").status_code == 404
    monkeypatch.setattr(blob_uploads, "MOST_OPEN", 1)
    assert post(api, "", {"sha256": "0" * 64, "size_bytes": 5}).status_code == 409
    assert post(other, "", {"sha256": "0" * 64, "size_bytes": 5}).status_code == 201
    assert blob_uploads.drop_abandoned(now=timezone.now()) == 0
    assert blob_uploads.drop_abandoned(now=timezone.now() + timedelta(hours=25)) == 2
    mine = post(api, "", WHOLE).json()
    assert api.delete(f"/api/v1/uploads/{mine['id']}/").status_code == 204
    assert not BlobUpload.objects.exists()


def test_parts_are_those_of_the_upload(api: APIClient, storage: str) -> None:
    upload = post(api, "", WHOLE).json()
    for numbers in ([0], [3], [], list(range(1, 102)), ["a"]):
        assert post(api, f"{upload['id']}/parts/", {"numbers": numbers}).status_code == 400
    (row,) = post(api, f"{upload['id']}/parts/", {"numbers": [2]}).json()
    assert row["size_bytes"] == 1000 - 0
    if storage == "S3":
        path = f"/api/v1/uploads/{upload['id']}/parts/2/"
        assert api.put(path, b"x", content_type="application/octet-stream").status_code == 400
        assert "X-Amz-Signature" in row["url"]
        return
    for data in (b"", DATA[:999], DATA[:1001]):
        assert put(api, row, data) == 400
    assert put(api, {"url": row["url"].replace("/2/", "/9/")}, b"x") == 400
    assert api.get(f"/api/v1/uploads/{upload['id']}/").json()["received"] == []


def test_who_may_not_read_sends_the_bytes_though_they_are_there(api: APIClient) -> None:
    upload = post(api, "", WHOLE).json()
    send(api, upload, DATA, [1, 2])
    post(api, f"{upload['id']}/complete/")
    blind = User.objects.create_user("blind")
    blind.user_permissions.set(Permission.objects.filter(codename="add_version"))
    client = APIClient()
    client.force_authenticate(User.objects.get(pk=blind.pk))
    assert post(client, "", WHOLE).json()["state"] == "open"
    answer = client.post(
        f"/api/v1/models/{make_model().slug}/versions/",
        {"version": "1.0.0", "blobs": f'{{"model.onnx": "{DIGEST}"}}'},
    )
    assert answer.status_code == 403
    blobs.discard_blob(sha256=DIGEST)


def test_a_version_is_made_of_bytes_that_were_uploaded_and_its_files_come_back(
    api: APIClient,
) -> None:
    data = make_onnx()
    digest = hashlib.sha256(data).hexdigest()
    upload = post(api, "", {"sha256": digest, "size_bytes": len(data)}).json()
    send(api, upload, data, [1])
    post(api, f"{upload['id']}/complete/")
    path = f"/api/v1/models/{make_model().slug}/versions/"
    unknown = api.post(path, {"version": "1.0.0", "blobs": f'{{"model.onnx": "{"0" * 64}"}}'})
    assert unknown.status_code == 400 and "Nothing was uploaded" in unknown.json()["message"]
    assert Blob.objects.filter(pk=digest).exists()
    both = api.post(path, {"version": "1.0.0", "blobs": "{}"})
    assert both.status_code == 400
    made = api.post(f"{path}?wait=1", {"version": "1.0.0", "blobs": f'{{"net.onnx": "{digest}"}}'})
    assert made.status_code == 201 and made.json()["state"] == "ready", made.json()
    files = api.get(f"{path}1.0.0/variants/fp32/files/").json()
    (model,) = (file for file in files if file["role"] == "model")
    assert (model["path"], model["sha256"]) == ("net.onnx", digest)
    if "testserver" in model["url"]:
        answer: Any = api.get(model["url"].removeprefix("http://testserver"))
        assert answer.getvalue() == data
    else:
        with urllib.request.urlopen(model["url"]) as found:
            assert found.read() == data
    assert api.get(f"{path}1.0.0/variants/none/files/").status_code == 404
    assert Version.objects.count() == 1
