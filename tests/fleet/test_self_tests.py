"""What devices' self-tests measured: taken at the door, kept once a device, told by class."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from fleet.models import Installation, SelfTest
from fleet.services.self_tests import device_results
from registry.models import Variant
from tests.factories.fleet import DeviceClient, make_client, make_deployment
from tests.queries import count_queries

pytestmark = pytest.mark.django_db
MEASURED: dict[str, Any] = {
    "rows": 64,
    "agreed": 60,
    "labelled": 64,
    "right": 59,
    "latency_ms": 4.25,
    "processor": "Intel(R) N100",
    "isa": ["vnni", "avx2"],
}


def tell(client: DeviceClient, model: str, state: str = "committed", **over: Any) -> Any:
    """The device's report of an installation with what its self-test measured."""
    client.etag = ""
    answer = client.poll(model).json()
    installation = Installation.objects.filter(assignment_id=answer["assignment_id"]).first()
    start = 1 + (installation.last_seq if installation else 0)
    measured = {**MEASURED, **over}
    return client.report(answer["assignment_id"], state, start=start, self_test=measured)


def test_what_a_device_measured_stands_with_its_installation(api: APIClient) -> None:
    model = make_deployment().model.slug
    client = make_client()
    assert tell(client, model).status_code == 200
    (row,) = api.get("/api/v1/installations/").json()["results"]
    assert row["self_test"] == {
        **MEASURED, "isa": "avx2,vnni", "is_passed": True,
        "measured_at": row["self_test"]["measured_at"],
    }  # fmt: skip
    # An agent that tells none has none, and is installed all the same.
    old = make_client()
    old.install(model)
    newest = api.get("/api/v1/installations/").json()["results"][0]
    assert (newest["device"], newest["state"]) == (old.device.device_id, "committed")
    assert newest["self_test"] is None


def test_a_device_counts_once_with_what_it_measured_last() -> None:
    model = make_deployment().model.slug
    client = make_client()
    assert tell(client, model, "failed", agreed=10).status_code == 200
    assert tell(client, model, "committed", agreed=64).status_code == 200
    kept = SelfTest.objects.get()
    assert (kept.agreed, kept.is_passed) == (64, True)


REFUSED: dict[str, Any] = {
    "no object": "fine",
    "no rows": {**MEASURED, "rows": 0},
    "rows without end": {**MEASURED, "rows": 10**12},
    "more agree than were asked": {**MEASURED, "agreed": 65},
    "more right than labelled": {**MEASURED, "labelled": 3, "right": 4},
    "a truth value for a number": {**MEASURED, "agreed": True},
    "a part of a row": {**MEASURED, "agreed": 1.5},
    "negative": {**MEASURED, "agreed": -1},
    "no end of time": {**MEASURED, "latency_ms": 1e300},
    "time as text": {**MEASURED, "latency_ms": "fast"},
    "a processor of a page": {**MEASURED, "processor": "x" * 101},
    "a processor that is none": {**MEASURED, "processor": ["x"]},
    "text that PostgreSQL cannot store": {**MEASURED, "processor": "a\x00b"},
    "sets without end": {**MEASURED, "isa": ["avx2"] * 9},
    "a set of any text": {**MEASURED, "isa": ["avx2,vnni"]},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_self_test_out_of_bounds_is_refused_and_leaves_nothing(name: str) -> None:
    model = make_deployment().model.slug
    client = make_client()
    answer = client.poll(model).json()
    response = client.report(answer["assignment_id"], "committed", self_test=REFUSED[name])
    assert response.status_code == 400, response.content
    # A body with U+0000 is refused before its fields are looked at.
    assert name.startswith("text") or "self_test" in response.json()["message"]
    assert not SelfTest.objects.exists()


def test_classes_of_devices_are_told_apart(api: APIClient, admin_client: Client) -> None:
    deployment = make_deployment()
    model, version = deployment.model.slug, deployment.stable_version
    for agreed in (64, 62):
        tell(make_client(attributes={"hardware_class": "N100"}), model, agreed=agreed)
    tell(make_client(), model, "failed", agreed=30, isa=["avx2"], processor="Atom x5")
    address = f"/api/v1/models/{model}/versions/{version.version}/device-results/"
    first, second = api.get(address).json()
    assert first["words"] == (
        "on 2 N100: 98.4 % of 64 rows agree (95 %: 91.7 to 99.7), 92.2 % are right, 4.25 ms"
    )
    assert (first["verdict"], first["lowest_agreement"]) == ("", 0.9688)
    assert (second["hardware"], second["failed"]) == ("Atom x5", 1)
    # Nothing is known of an uploaded variant's sums; the processor is one that cuts them.
    assert second["verdict"] == "perhaps collapse by saturation"
    page = admin_client.get(reverse("admin:registry_version_change", args=[version.pk]))
    text = page.content.decode()
    assert "on 2 N100: 98.4 % of 64 rows agree" in text
    assert "<strong>perhaps collapse by saturation</strong>" in text


def test_what_was_measured_names_the_collapse() -> None:
    deployment = make_deployment()
    variant = Variant.objects.get(version=deployment.stable_version)
    variant.metrics = {
        "accuracy": 0.95, "accuracy_interval": [0.93, 0.97], "saturates_on": ["avx2", "avx512"],
        "accuracy_by_isa": {"avx2": 0.94, "vnni": 0.95},
    }  # fmt: skip
    variant.save()
    tell(make_client(), deployment.model.slug, right=30, isa=["avx2"])
    (result,) = device_results([variant])[variant.pk]
    assert result.words.endswith("46.9 % are right, 4.25 ms: collapse by saturation")


def test_pages_cost_the_same_for_one_device_and_for_many(admin_client: Client) -> None:
    deployment = make_deployment()
    version = deployment.stable_version
    slug = deployment.model.slug
    addresses = [
        reverse("admin:registry_version_change", args=[version.pk]),
        f"/api/v1/models/{slug}/versions/{version.version}/device-results/",
        "/api/v1/installations/",
    ]
    tell(make_client(), slug)
    few = count_queries(admin_client, addresses)
    for number in range(4):
        tell(make_client(), slug, processor=f"board {number}")
    assert count_queries(admin_client, addresses) == few
