"""The management API of the registry: each write tried well, badly, twice, by the wrong person."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from registry.models import Blob, DataSet, Model, Version
from registry.services.aliases import move_alias
from tests.factories.registry import (
    make_model,
    make_npz,
    make_onnx,
    make_upload,
    make_version,
    make_weights,
)
from tests.registry.conftest import stored_files

pytestmark = pytest.mark.django_db
DATA = make_onnx()


def file_of(data: bytes = DATA, name: str = "net.onnx") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data)


def upload(api: APIClient, model: Model, **over: Any) -> Any:
    body = {"version": "1.0.0", "file": file_of(), **over}
    url = f"/api/v1/models/{model.slug}/versions/?wait=1"
    return api.post(url, {k: v for k, v in body.items() if v is not None})


def test_a_model_is_made_once(api: APIClient) -> None:
    body = {"slug": "digits", "task": "classification", "labels": ["0", "1"]}
    response = api.post("/api/v1/models/", body, format="json")
    assert response.status_code == 201
    assert response.json()["labels"] == ["0", "1"]
    again = api.post("/api/v1/models/", body, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert api.get("/api/v1/models/").json()["results"][0]["slug"] == "digits"
    assert api.get("/api/v1/models/digits/").json()["slug"] == "digits"


@pytest.mark.parametrize(
    "body",
    [{}, {"slug": "Bad Slug"}, {"slug": "x", "task": "magic"}, {"slug": "x", "labels": ["a", "a"]}],
)
def test_a_bad_model_is_refused(api: APIClient, body: dict[str, Any]) -> None:
    response = api.post("/api/v1/models/", body, format="json")
    assert response.status_code == 400
    assert set(response.json()) == {"code", "message", "details"}
    assert not Model.objects.exists()


def test_an_upload_is_validated_and_shows_its_digests(api: APIClient) -> None:
    model = make_model()
    data_set = api.post(
        f"/api/v1/models/{model.slug}/datasets/",
        {"name": "eval", "file": SimpleUploadedFile("eval.npz", make_npz())},
    )
    assert data_set.status_code == 201, data_set.json()
    assert data_set.json()["rows"] == 64
    digest = hashlib.sha256(DATA).hexdigest()
    response = upload(
        api,
        model,
        sha256=digest,
        dataset=data_set.json()["id"],
        metadata=json.dumps({"notes": "first", "requirements": {"arch": ["x86_64"]}}),
    )
    body = response.json()
    assert response.status_code == 201, body
    assert (body["state"], body["notes"], body["metrics"]) == ("ready", "first", {"accuracy": 1.0})
    variant = body["variants"][0]
    assert variant["name"] == "fp32"
    assert variant["requirements"]["arch"] == ["x86_64"]
    assert {"path": "model.onnx", "role": "model", "sha256": digest, "size_bytes": len(DATA)} in (
        variant["files"]
    )
    url = f"/api/v1/models/{model.slug}/versions/1.0.0/"
    assert api.get(url).json() == body
    listed = api.get(f"{url}variants/").json()["results"]
    assert listed[0]["manifest_sha256"] == variant["manifest_sha256"]
    baseline = api.get(f"{url}variants/fp32/baseline/").json()
    assert baseline["profile"]["accuracy"] == 1.0


def test_an_upload_without_waiting_is_validating(api: APIClient, settings: Any) -> None:
    model = make_model()
    url = f"/api/v1/models/{model.slug}/versions/"
    response = api.post(url, {"version": "1", "file": file_of()})
    assert (response.status_code, response.json()["state"]) == (201, "validating")


def test_a_file_that_is_no_model_is_a_rejected_version(api: APIClient, home: Path) -> None:
    body = upload(api, make_model(), file=file_of(b"hello")).json()
    assert body["state"] == "rejected"
    assert "not an ONNX model" in body["rejection_reason"]
    assert body["variants"] == []
    assert stored_files(home) == []


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "no file": ({"file": None}, 400, "invalid"),
    "no version": ({"version": None}, 400, "invalid"),
    "bad version": ({"version": "a b"}, 400, "invalid"),
    "wrong digest": ({"sha256": "0" * 64}, 400, "digest_mismatch"),
    "no digest at all": ({"sha256": "abc"}, 400, "invalid"),
    "metadata is a list": ({"metadata": "[]"}, 400, "invalid"),
    "metadata is no JSON": ({"metadata": "{"}, 400, "invalid"),
    "unknown data set": ({"dataset": 99}, 400, "invalid"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_upload_is_one_clear_error_and_leaves_nothing(
    case: str, api: APIClient, home: Path
) -> None:
    over, status, code = BAD[case]
    response = upload(api, make_model(), **over)
    assert (response.status_code, response.json()["code"]) == (status, code), response.json()
    assert response.json()["message"]
    assert not Version.objects.exists()
    assert not Blob.objects.exists()
    assert stored_files(home) == []


def test_a_body_that_stops_short_leaves_nothing(api: APIClient, home: Path) -> None:
    model = make_model()
    boundary = "frontier"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="version"\r\n\r\n1\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="m.onnx"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode() + DATA
    response = api.generic(
        "POST",
        f"/api/v1/models/{model.slug}/versions/",
        body,
        content_type=f"multipart/form-data; boundary={boundary}",
        **{"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body) + 5000)},
    )
    assert (response.status_code, response.json()["code"]) == (400, "upload_incomplete")
    assert not Version.objects.exists()
    assert stored_files(home) == []


def test_an_upload_above_the_limit_is_413(api: APIClient, settings: Any, home: Path) -> None:
    settings.AVIARY_MAX_UPLOAD_BYTES = len(DATA) - 1
    response = upload(api, make_model())
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert stored_files(home) == []


def test_the_same_version_again_is_409(api: APIClient) -> None:
    model = make_model()
    assert upload(api, model).status_code == 201
    again = upload(api, model)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert Version.objects.count() == 1


def test_a_version_is_moved_with_a_reason(api: APIClient) -> None:
    version = make_version(state="ready")
    url = f"/api/v1/models/{version.model.slug}/versions/{version.version}/transition/"
    assert api.post(url, {"to": "approved"}, format="json").json()["state"] == "approved"
    missing = api.post(url, {"to": "yanked"}, format="json")
    assert (missing.status_code, missing.json()["code"]) == (400, "invalid")
    assert api.post(url, {"to": "yanked", "reason": "bad"}, format="json").status_code == 200
    late = api.post(url, {"to": "approved"}, format="json")
    assert (late.status_code, late.json()["code"]) == (409, "wrong_state")
    assert api.post(url, {"to": "ready"}, format="json").status_code == 400
    events = api.get("/api/v1/audit/", {"object_type": "registry.version"}).json()["results"]
    assert [event["action"] for event in events[:2]] == ["version.yanked", "version.approved"]
    assert events[0]["actor"] == "ada"


def test_notes_change_and_files_do_not(api: APIClient) -> None:
    version = make_version()
    url = f"/api/v1/models/{version.model.slug}/versions/{version.version}/"
    assert api.patch(url, {"notes": "n"}, format="json").json()["notes"] == "n"
    refused = api.patch(url, {"notes": "m", "signature": {}}, format="json")
    assert refused.status_code == 400
    body = api.get(url).json()
    assert (body["notes"], body["signature"]) == ("n", version.signature)


@pytest.mark.parametrize("name", ["\udcff", "a\0", "x" * 5000])
def test_a_name_that_no_store_keeps_is_refused_with_its_path(api: APIClient, name: str) -> None:
    version = make_version()
    url = f"/api/v1/models/{version.model.slug}/aliases/champion/"
    body = json.dumps({"version": version.version, name: 1})
    refused = api.put(url, body, content_type="application/json")
    assert refused.status_code == 400
    ((path, (message,)),) = refused.json()["details"].items()
    assert path.startswith("$.") and message["code"] == "unstorable"
    assert not version.model.aliases.exists()


@pytest.mark.parametrize("name", ["kinds", "é" * 200])
def test_a_misspelt_field_is_named_beside_those_there_are(api: APIClient, name: str) -> None:
    version = make_version()
    url = f"/api/v1/models/{version.model.slug}/aliases/champion/"
    body = json.dumps({"version": version.version, name: 1})
    refused = api.put(url, body, content_type="application/json")
    assert refused.status_code == 400
    (message,) = refused.json()["details"]["non_field_errors"]
    assert message["code"] == "unknown_field"
    assert message["message"].endswith("expected some of: version, reason.")
    assert not version.model.aliases.exists()


@pytest.mark.parametrize(
    "path",
    ["none/versions/", "none/datasets/", "none/aliases/", "none/versions/1.0.0/variants/",
     "{slug}/versions/9.9.9/variants/"],
)  # fmt: skip
def test_a_list_below_nothing_is_not_found_and_not_empty(api: APIClient, path: str) -> None:
    slug = make_version().model.slug
    assert api.get(f"/api/v1/models/{path.format(slug=slug)}").status_code == 404
    assert api.get(f"/api/v1/models/{slug}/datasets/").json()["results"] == []


def test_aliases_are_moved_and_listed(api: APIClient) -> None:
    version = make_version()
    url = f"/api/v1/models/{version.model.slug}/aliases/"
    put = api.put(f"{url}champion/", {"version": version.version}, format="json")
    assert put.status_code == 200
    assert api.get(url).json() == [
        {"name": "champion", "version": version.version, "is_protected": False}
    ]
    assert api.put(f"{url}champion/", {"version": "none"}, format="json").status_code == 404


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"not a zip", "dataset_invalid"),
        (make_npz(y=[0.5] * 64), "dataset_invalid"),
        (make_npz(x=[[float("nan")] * 4] * 64), "dataset_invalid"),
        (make_npz(x=[[object()]]), "dataset_invalid"),
        (make_npz(y=[3] + [0] * 63), "dataset_invalid"),
        (make_npz(y=[-1] + [0] * 63), "dataset_invalid"),
    ],
    ids=[
        "not a zip",
        "labels are floats",
        "NaN",
        "pickled objects",
        "a label that the model has not",
        "a label below zero",
    ],
)
def test_a_bad_data_set_leaves_nothing(api: APIClient, home: Path, data: bytes, code: str) -> None:
    model = make_model()
    file = SimpleUploadedFile("x.npz", data)
    response = api.post(f"/api/v1/models/{model.slug}/datasets/", {"name": "e", "file": file})
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert not DataSet.objects.exists()
    assert stored_files(home) == []


def test_labels_are_held_against_the_classes_of_a_classifier_alone(api: APIClient) -> None:
    model = make_model(task="regression")
    file = SimpleUploadedFile("x.npz", make_npz(y=[700] * 64))
    response = api.post(f"/api/v1/models/{model.slug}/datasets/", {"name": "e", "file": file})
    assert response.status_code == 201


def test_readers_read_and_do_not_write(reader: APIClient) -> None:
    version = make_version()
    slug = version.model.slug
    base = f"/api/v1/models/{slug}/versions/"
    assert reader.get(base).status_code == 200
    for response in (
        reader.post("/api/v1/models/", {"slug": "x"}, format="json"),
        upload(reader, version.model),
        reader.post(f"{base}{version.version}/transition/", {"to": "deprecated"}, format="json"),
        reader.patch(f"{base}{version.version}/", {"notes": "x"}, format="json"),
        reader.put(f"/api/v1/models/{slug}/aliases/a/", {"version": "x"}, format="json"),
    ):
        assert response.status_code == 403
        assert response.json()["code"] == "permission_denied"


def test_nobody_reads_without_a_login() -> None:
    for path in ("models/", "audit/", "models/x/versions/"):
        assert Client().get(f"/api/v1/{path}").status_code == 401


@pytest.mark.parametrize(
    "path", ["", "versions/", "versions/1/", "versions/1/variants/x/baseline/"]
)
def test_what_is_not_there_is_404_in_the_one_shape(api: APIClient, path: str) -> None:
    response = api.get(f"/api/v1/models/nobody/{path}")
    assert response.status_code == 404
    assert set(response.json()) == {"code", "message", "details"}


def test_a_page_of_versions_costs_the_same_for_one_and_for_many(
    api: APIClient, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    model = make_model()
    for _ in range(4):
        make_upload(model)
    move_alias(version=make_version(model), name="champion", actor="ada")
    with django_assert_max_num_queries(6):
        body = api.get(f"/api/v1/models/{model.slug}/versions/").json()
    assert len(body["results"]) == 5


def test_pages_are_cut_by_key(api: APIClient) -> None:
    model = make_model()
    for _ in range(3):
        make_upload(model)
    page = api.get(f"/api/v1/models/{model.slug}/versions/", {"page_size": 2}).json()
    rest = api.get(page["next"]).json()
    assert [row["sequence"] for row in page["results"] + rest["results"]] == [3, 2, 1]


def test_uploads_of_several_files_keep_their_names(api: APIClient) -> None:
    files = [
        file_of(make_onnx(external="w.bin"), "net.onnx"),
        SimpleUploadedFile("w.bin", make_weights()),
    ]
    response = upload(api, make_model(), file=None, files=files)
    assert response.json()["state"] == "ready", response.json()
    paths = [file["path"] for file in response.json()["variants"][0]["files"]]
    assert sorted(paths) == ["golden.npz", "net.onnx", "w.bin"]
