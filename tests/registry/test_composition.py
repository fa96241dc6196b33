"""Data sets made of other data: disjoint, stratified, and with where they came from."""

import io
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from registry.exceptions import AviaryError, ConflictError, DataSetInvalidError
from registry.models import AuditEvent, DataSet
from registry.services.blobs import open_blob, store_blob
from registry.services.composition import Part, compose_dataset, split_dataset
from registry.services.versions import validate_version
from tests.factories import exports
from tests.factories.registry import (
    FEATURES,
    make_dataset,
    make_model,
    make_npz,
    make_upload,
    make_version,
)

pytestmark = pytest.mark.django_db


def make_part(source: str, rows: int, seed: int, **arrays: Any) -> Part:
    x = np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)
    data = io.BytesIO()
    np.savez(data, **{"x": x, **arrays})
    data.seek(0)
    return Part(store_blob(stream=data, max_bytes=1 << 24).pk, source)


def read(dataset: DataSet) -> dict[str, Any]:
    with open_blob(dataset.blob_id) as stream, np.load(io.BytesIO(stream.read())) as arrays:
        return dict(arrays)


def compose(model: Any, parts: list[Part], **over: Any) -> DataSet:
    fields: dict[str, Any] = {
        "model_slug": model.slug,
        "name": "from-the-fleet",
        "kind": "calibration",
        "parts": parts,
        "rows": 100,
        "min_rows": 10,
        "seed": 0,
        "actor": "tester",
    }
    return compose_dataset(**{**fields, **over})


def test_a_set_is_drawn_from_the_parts_and_says_what_it_is_made_of() -> None:
    version = make_version()
    parts = [
        make_part("edge-1", 80, 1, class_id=np.arange(80) % 3, confidence=np.linspace(0, 1, 80)),
        make_part("edge-2", 80, 2),
    ]
    dataset = compose(version.model, parts)
    assert (dataset.rows, dataset.kind) == (100, "calibration")
    said = dataset.provenance
    assert (said["pool_rows"], said["devices"], said["parts"]) == (160, 2, 2)
    assert set(said["classes"]) == {"-1", "0", "1", "2"}
    assert set(read(dataset)) == {"x"}
    event = AuditEvent.objects.get(action="dataset.registered")
    assert event.details["provenance"]["seed"] == 0


def test_repeated_rows_count_once_and_evaluation_rows_are_kept_out() -> None:
    version = make_version()
    part = make_part("edge-1", 50, 1)
    held = make_dataset(version.model, stream=io.BytesIO(make_npz(rows=20, seed=1)))
    dataset = compose(version.model, [part, Part(part.sha256, "edge-2")], keep_out=held)
    # The first twenty rows of both draw from the same seed, so they are equal.
    assert dataset.provenance["held_out_rows"] == 40
    assert dataset.provenance["repeated_rows"] == 30
    assert dataset.rows == 30
    shared = {row.tobytes() for row in read(dataset)["x"]} & {
        row.tobytes() for row in read(held)["x"]
    }
    assert not shared


def test_unusable_parts_are_passed_over_and_named() -> None:
    version = make_version()
    wrong = io.BytesIO()
    np.savez(wrong, x=np.zeros((5, FEATURES + 1), np.float32))
    parts = [
        make_part("edge-1", 50, 1),
        Part(store_blob(stream=io.BytesIO(b"PK no zip"), max_bytes=99).pk, "edge-2"),
        Part(store_blob(stream=io.BytesIO(wrong.getvalue()), max_bytes=9999).pk, "edge-3"),
    ]
    dataset = compose(version.model, parts)
    assert dataset.rows == 50
    skipped = {row["part"]: row["reason"] for row in dataset.provenance["skipped"]}
    assert "not a readable npz" in skipped[1]
    assert f"has shape [5, {FEATURES + 1}]" in skipped[2]


@pytest.mark.parametrize(
    ("over", "words"),
    {
        "too few usable rows": ({"min_rows": 60}, "at least 60 usable rows; got 50"),
        "no parts": ({"parts": []}, "Expected 1 to 5000 batches"),
        "more wanted than allowed": ({"rows": 10**7}, "rows ≤ 200000"),
        "a model without a version": ({"model_slug": "bare"}, "no validated version"),
    }.values(),
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    over: dict[str, Any], words: str
) -> None:
    version = make_version()
    make_model(slug="bare")
    parts = [make_part("edge-1", 50, 1)]
    with pytest.raises(AviaryError, match=words):
        compose(version.model, **{"parts": parts, **over})
    assert not DataSet.objects.exists()


def test_a_split_is_disjoint_and_the_same_when_repeated() -> None:
    dataset = make_dataset(make_model(), stream=io.BytesIO(make_npz(rows=100)))
    first, second = split_dataset(
        dataset=dataset, share=0.3, names=("calib", "eval"), actor="tester"
    )
    assert first.rows + second.rows == 100
    assert abs(first.rows - 30) <= 2
    assert (first.kind, second.kind) == ("calibration", "evaluation")
    rows = [{row.tobytes() for row in read(part)["x"]} for part in (first, second)]
    assert not rows[0] & rows[1]
    again = split_dataset(dataset=dataset, share=0.3, names=("calib", "eval"), actor="tester")
    assert [part.pk for part in again] == [first.pk, second.pk]
    with pytest.raises(ConflictError):
        split_dataset(dataset=dataset, share=0.5, names=("calib", "eval"), actor="tester")


def test_a_split_with_an_empty_part_is_refused() -> None:
    data = io.BytesIO()
    np.savez(data, x=np.zeros((40, FEATURES), np.float32))
    dataset = make_dataset(make_model(), stream=io.BytesIO(data.getvalue()))
    with pytest.raises(DataSetInvalidError, match="would be empty"):
        split_dataset(dataset=dataset, share=0.5, names=("a", "b"), actor="tester")


def test_a_split_by_the_api(api: APIClient, reader: APIClient) -> None:
    dataset = make_dataset(make_model(), stream=io.BytesIO(make_npz(rows=100)))
    url = f"/api/v1/models/{dataset.model.slug}/datasets/{dataset.pk}/split/"
    body = {"share": 0.25, "first": "calib", "second": "eval"}
    answer = api.post(url, body, format="json")
    assert answer.status_code == 201, answer.content
    assert [row["name"] for row in answer.json()] == ["calib", "eval"]
    assert answer.json()[0]["provenance"]["split_of"] == dataset.blob_id
    assert reader.post(url, body, format="json").status_code == 403
    assert api.post(url, {**body, "share": 1.5}, format="json").status_code == 400
    missing = f"/api/v1/models/other/datasets/{dataset.pk}/split/"
    assert api.post(missing, body, format="json").status_code == 404


@pytest.mark.parametrize(
    ("arrays", "words"),
    {
        "inputs of different lengths": (
            {"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, "'b' has 4 rows; 'a' has 3"
        ),
        "only labels": ({"y": np.zeros(3, np.int64)}, "Expected an array 'x'"),
        "confidence out of range": (
            {"x": np.zeros((2, 2)), "confidence": np.array([0.5, 1.5])}, "lies in 0 to 1"
        ),
        "classes that are no integers": (
            {"x": np.zeros((2, 2)), "class_id": np.array([0.5, 1.5])}, "'class_id' needs 2 integers"
        ),
    }.values(),
)  # fmt: skip
def test_arrays_that_do_not_fit_each_other_are_refused(arrays: dict[str, Any], words: str) -> None:
    data = io.BytesIO()
    np.savez(data, **arrays)
    with pytest.raises(DataSetInvalidError, match=words):
        make_dataset(make_model(), stream=io.BytesIO(data.getvalue()))


def test_a_set_for_a_model_with_several_inputs_names_them() -> None:
    data = io.BytesIO()
    np.savez(data, ids=np.zeros((6, 4), np.int64), mask=np.ones((6, 4), np.int64))
    dataset = make_dataset(make_model(), stream=io.BytesIO(data.getvalue()))
    assert (dataset.rows, set(dataset.arrays)) == (6, {"ids", "mask"})


def test_a_split_by_the_admin_page(admin_client: Client) -> None:
    dataset = make_dataset(make_model(), stream=io.BytesIO(make_npz(rows=100)))
    page = reverse("admin:registry_dataset_change", args=[dataset.pk])
    assert b"Split in two" in admin_client.get(page).content
    address = reverse("admin:registry_dataset_split", args=[dataset.pk])
    shown = admin_client.get(address).content.decode()
    assert f"{dataset.name}-calibration" in shown
    given = {"percent": "40", "first": "calib", "second": "eval"}
    refused = admin_client.post(address, {**given, "percent": "400"})
    assert "less than or equal to 99.9" in refused.content.decode()
    answer = admin_client.post(address, given, follow=True)
    assert "calib with 40 and eval with 60 rows" in answer.content.decode()
    part = DataSet.objects.get(name="calib")
    made = admin_client.get(reverse("admin:registry_dataset_change", args=[part.pk]))
    assert dataset.blob_id in made.content.decode()


def test_several_inputs_are_drawn_together_with_texts_and_states() -> None:
    model = make_model(labels=[])
    version = validate_version(version_id=make_upload(model, exports.categories()).pk)
    assert version.state == "ready", version.question
    data = io.BytesIO()
    cities = np.array([["oslo"], ["riga"], ["oslo"]] * 8)
    np.savez(data, city=cities, a=np.arange(24, dtype=np.float32)[:, None] // 2)
    data.seek(0)
    part = Part(store_blob(stream=data, max_bytes=1 << 20).pk, "edge-1")
    found = read(compose(model, [part]))
    assert set(found) == {"city", "a"} and found["city"].dtype.kind == "U"
    # Of rows that are equal in every input one is kept.
    assert len(found["a"]) == len({*zip(cities[:, 0], np.arange(24) // 2, strict=True)})
    speech = make_model(labels=[])
    validate_version(version_id=make_upload(speech, exports.voice_activity()).pk)
    data = io.BytesIO()
    sound = np.random.default_rng(1).normal(size=(12, 9)).astype(np.float32)
    np.savez(data, input=sound, state=np.zeros((12, 2, 4), np.float32), sr=np.full(12, 16000))
    data.seek(0)
    part = Part(store_blob(stream=data, max_bytes=1 << 20).pk, "edge-1")
    found = read(compose(speech, [part]))
    assert {name: values.shape for name, values in found.items()} == {
        "input": (12, 9), "state": (12, 2, 4), "sr": (12,),
    }  # fmt: skip
