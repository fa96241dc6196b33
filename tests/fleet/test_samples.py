"""Sampled inputs: opt-in twice, bounded per device, and made into calibration sets."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from fleet.models import CalibrationBuild, Device, SampleBatch
from fleet.services import samples
from registry.exceptions import AviaryError
from registry.models import AuditEvent, Blob, DataSet, Model
from registry.services.blobs import open_blob
from tests.factories.fleet import DeviceClient, make_client, make_release
from tests.factories.registry import make_dataset, make_model

pytestmark = pytest.mark.django_db
FEATURES = 4


def make_body(rows: int = 10, seed: int = 0, **arrays: Any) -> bytes:
    generator = np.random.default_rng(seed)
    data = io.BytesIO()
    np.savez(
        data,
        **{
            "x": generator.normal(size=(rows, FEATURES)).astype(np.float32),
            "class_id": generator.integers(0, 3, rows),
            "confidence": generator.uniform(0.3, 1.0, rows).astype(np.float32),
            **arrays,
        },
    )
    return data.getvalue()


def make_sampler(**over: Any) -> DeviceClient:
    device = make_client(**over)
    samples.set_sampling(device_id=device.device.device_id, is_allowed=True, actor="tester")
    return device


def send(device: DeviceClient, model: Model, body: bytes) -> Any:
    url = f"/api/devices/samples?model={model.slug}"
    return device.client.post(url, body, content_type="application/octet-stream")


def fill(model: Model, *, devices: int = 3, rows: int = 500) -> list[DeviceClient]:
    senders = [make_sampler(attributes={"site": f"site-{n}"}) for n in range(devices)]
    for seed, device in enumerate(senders):
        assert send(device, model, make_body(rows, seed)).status_code == 202
    return senders


@pytest.fixture
def model() -> Model:
    return make_release(make_model()).model


def test_the_same_bytes_again_are_one_batch(model: Model) -> None:
    device = make_sampler()
    answers = [send(device, model, make_body()).json() for _ in range(2)]
    assert [answer["is_new"] for answer in answers] == [True, False]
    assert answers[0]["batch"] == answers[1]["batch"]
    assert SampleBatch.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "slug", "status", "code"),
    {
        "no npz": (b"hello", None, 400, "invalid"),
        "too large": (b"PK\x03\x04" + bytes(16 * 2**20), None, 413, "too_large"),
        "unknown model": (make_body(), "nobody", 400, "invalid"),
    }.values(),
)
def test_what_is_no_sample_is_refused_and_not_kept(
    model: Model, body: bytes, slug: str | None, status: int, code: str
) -> None:
    device = make_sampler()
    answer = device.client.post(
        f"/api/devices/samples?model={slug or model.slug}",
        body,
        content_type="application/octet-stream",
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not SampleBatch.objects.exists()


def test_a_device_keeps_its_newest_batches_within_its_share(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [make_body(50, seed) for seed in range(5)]
    monkeypatch.setattr(samples, "MAX_DEVICE_BYTES", 3 * len(bodies[0]))
    device, other = make_sampler(), make_sampler()
    send(other, model, make_body(50, 99))
    for body in bodies:
        assert send(device, model, body).status_code == 202
    kept = SampleBatch.objects.filter(device=device.device)
    assert kept.count() == 3
    assert SampleBatch.objects.filter(device=other.device).count() == 1
    assert Blob.objects.filter(sample_batches__isnull=False).count() == 4
    assert kept.order_by("-pk").first().blob.size_bytes == len(bodies[-1])  # type: ignore[union-attr]


def test_a_set_is_made_of_what_devices_sent(model: Model) -> None:
    fill(model)
    build = samples.request_calibration(model=model, name="real", actor="ada", rows=1200)
    done = samples.build_calibration(build_id=build.pk)
    assert done.state == "done", done.error
    dataset = done.dataset
    assert dataset is not None
    assert (dataset.rows, dataset.kind, dataset.created_by) == (1200, "calibration", "ada")
    assert dataset.provenance["devices"] == 3
    assert dataset.provenance["source"] == "fleet samples"
    with open_blob(dataset.blob_id) as stream, np.load(io.BytesIO(stream.read())) as arrays:
        assert arrays["x"].shape == (1200, FEATURES)
    assert AuditEvent.objects.filter(action="calibration.ordered").exists()


def test_building_twice_makes_one_set(model: Model) -> None:
    fill(model)
    build = samples.request_calibration(model=model, name="real", actor="ada", rows=1000)
    first = samples.build_calibration(build_id=build.pk)
    again = samples.build_calibration(build_id=build.pk)
    assert first.dataset_id == again.dataset_id
    assert DataSet.objects.count() == 1


def test_a_build_whose_worker_died_is_taken_over(model: Model) -> None:
    fill(model)
    build = samples.request_calibration(model=model, name="real", actor="ada", rows=1000)
    now = timezone.now()
    CalibrationBuild.objects.filter(pk=build.pk).update(state="running", started_at=now)
    assert samples.builds_to_start(now=now) == []
    assert samples.build_calibration(build_id=build.pk).state == "running"
    lost = now - 2 * samples.BUILD_TIMEOUT
    CalibrationBuild.objects.filter(pk=build.pk).update(started_at=lost)
    assert samples.builds_to_start(now=now) == [build.pk]
    assert samples.build_calibration(build_id=build.pk).state == "done"


def test_fewer_than_a_thousand_inputs_make_no_set(model: Model) -> None:
    fill(model, devices=2, rows=400)
    build = samples.request_calibration(model=model, name="real", actor="ada")
    failed = samples.build_calibration(build_id=build.pk)
    assert failed.state == "failed"
    assert "at least 1000 usable rows; got 800" in failed.error
    assert not DataSet.objects.exists()


def test_a_selector_and_a_withdrawn_permission_leave_devices_out(model: Model) -> None:
    senders = fill(model, devices=3, rows=1000)
    withdrawn = senders[2].device.device_id
    samples.set_sampling(device_id=withdrawn, is_allowed=False, actor="ada", reason="privacy")
    assert send(senders[2], model, make_body(5, 77)).status_code == 403
    every = samples.request_calibration(model=model, name="every", actor="ada", rows=200_000)
    assert samples.build_calibration(build_id=every.pk).dataset.rows == 2000  # type: ignore[union-attr]
    one = samples.request_calibration(
        model=model, name="one", actor="ada", rows=5000, selector={"site": ["site-1"]}
    )
    made = samples.build_calibration(build_id=one.pk).dataset
    assert made is not None
    assert (made.rows, made.provenance["devices"]) == (1000, 1)


@pytest.mark.parametrize(
    ("over", "words"),
    {
        "too few wanted": ({"rows": 10}, "invalid fields"),
        "a name no data set may have": ({"name": "../x"}, "invalid fields"),
        "an empty span": (
            {"since": timezone.now(), "until": timezone.now() - timedelta(days=1)},
            "since must be before until",
        ),
        "a span without samples": ({"until": timezone.now() - timedelta(days=9)}, "allow devices"),
    }.values(),
)
def test_an_order_that_cannot_be_met_is_refused(
    model: Model, over: dict[str, Any], words: str
) -> None:
    fill(model, devices=1, rows=10)
    with pytest.raises(AviaryError, match=words):
        samples.request_calibration(**{"model": model, "name": "real", "actor": "ada", **over})
    assert not CalibrationBuild.objects.exists()


def test_a_name_is_given_once(model: Model) -> None:
    fill(model, devices=1, rows=10)
    make_dataset(model, name="taken")
    with pytest.raises(AviaryError, match="has a data set 'taken' already"):
        samples.request_calibration(model=model, name="taken", actor="ada")
    samples.request_calibration(model=model, name="real", actor="ada")
    with pytest.raises(AviaryError, match="is being made already"):
        samples.request_calibration(model=model, name="real", actor="ada")


def test_old_and_withdrawn_samples_are_removed_after_their_time(model: Model) -> None:
    old, withdrawn, _ = fill(model, rows=5)
    now = timezone.now()
    SampleBatch.objects.filter(device=old.device).update(received_at=now - timedelta(days=31))
    samples.set_sampling(
        device_id=withdrawn.device.device_id, is_allowed=False, actor="ada", reason="privacy"
    )
    assert samples.prune_samples(now=now, is_dry_run=True) == 1
    assert SampleBatch.objects.count() == 3
    assert samples.prune_samples(now=now) == 1
    assert samples.prune_samples(now=now + timedelta(days=2)) == 1
    assert Blob.objects.filter(sample_batches__isnull=False).count() == 1


def test_the_api_orders_a_set_and_says_how_it_goes(
    api: APIClient, model: Model, django_capture_on_commit_callbacks: Any, settings: Any
) -> None:
    fill(model)
    body = {"model": model.slug, "name": "real", "rows": 1000}
    with django_capture_on_commit_callbacks() as callbacks:
        answer = api.post("/api/v1/calibration-builds/", body, format="json")
    assert answer.status_code == 201, answer.content
    assert len(callbacks) == 1
    build = answer.json()
    assert (build["state"], build["dataset"]) == ("queued", None)
    samples.build_calibration(build_id=build["id"])
    shown = api.get(f"/api/v1/calibration-builds/{build['id']}/").json()
    assert (shown["state"], shown["rows"]) == ("done", 1000)
    again = api.post("/api/v1/calibration-builds/", body, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert api.post("/api/v1/calibration-builds/", {}, format="json").status_code == 400


def test_a_person_allows_sampling_by_api_and_page(api: APIClient, admin_client: Client) -> None:
    device = make_client().device
    url = f"/api/v1/devices/{device.device_id}"
    assert api.post(f"{url}/allow-sampling/").json()["is_sampling_allowed"] is True
    assert api.post(f"{url}/forbid-sampling/").json()["is_sampling_allowed"] is False
    page = reverse("admin:fleet_device_change", args=[device.pk])
    assert "not allowed" in admin_client.get(page).content.decode()
    admin_client.post(reverse("admin:fleet_device_act", args=[device.pk, "allow_sampling"]))
    assert Device.objects.get(pk=device.pk).is_sampling_allowed
    events = AuditEvent.objects.filter(action__startswith="device.sampling").count()
    assert events == 3


def test_the_pages_of_samples_and_orders(admin_client: Client, model: Model) -> None:
    for name in ("samplebatch", "calibrationbuild"):
        empty = admin_client.get(reverse(f"admin:fleet_{name}_changelist")).content.decode()
        assert "allow" in empty
    fill(model)
    add = reverse("admin:fleet_calibrationbuild_add")
    given = {"model": model.pk, "name": "real", "rows": 1000}
    refused = admin_client.post(add, {**given, "rows": 10}).content.decode()
    assert "greater than or equal to 1000" in refused
    shown = admin_client.post(add, given, follow=True).content.decode()
    assert "was ordered" in shown
    build = CalibrationBuild.objects.get()
    samples.build_calibration(build_id=build.pk)
    page = reverse("admin:fleet_calibrationbuild_change", args=[build.pk])
    assert "1000 rows" in admin_client.get(page).content.decode()
    rows = admin_client.get(reverse("admin:fleet_calibrationbuild_changelist")).content.decode()
    assert "1000 of 1000" in rows
    listed = admin_client.get(reverse("admin:fleet_samplebatch_changelist")).content.decode()
    assert model.slug in listed
