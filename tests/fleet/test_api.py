"""The management API of the fleet: success, refusals and what each leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from fleet.models import Deployment, Device, JoinToken, Rollout
from tests.factories.fleet import (
    make_client,
    make_deployment,
    make_device,
    make_release,
    make_rollout,
)
from tests.factories.registry import make_model

pytestmark = pytest.mark.django_db


def test_a_rollout_goes_from_draft_to_running_over_the_api(api: APIClient) -> None:
    model = make_model()
    stable, target = make_release(model), make_release(model)
    deployment = api.post(
        "/api/v1/deployments/",
        {"name": "line", "model": model.slug, "stable_version": stable.version, "selector": {}},
        format="json",
    )
    assert deployment.status_code == 201, deployment.content
    created = api.post(
        "/api/v1/rollouts/",
        {
            "deployment": deployment.json()["id"],
            "target_version": target.version,
            "stages": [{"percent": 10, "bake_seconds": 0}, {"percent": 100}],
            "gates": [{"metric": "prediction_psi", "threshold": 0.2, "action": "abort"}],
        },
        format="json",
    )
    assert created.status_code == 201, created.content
    path = f"/api/v1/rollouts/{created.json()['id']}/"
    started = api.post(f"{path}start/", {"reason": "go"}, format="json")
    assert started.json()["state"] == "running"
    again = api.post(f"{path}start/", {}, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "invalid_transition")
    stale = api.post(f"{path}advance/", {"revision": 1}, format="json")
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_revision")
    body = api.get(path).json()
    assert [stage["percent"] for stage in body["stages"]] == [10, 100]
    assert body["gates"][0]["threshold"] == 0.2
    assert [event["action"] for event in body["events"]] == ["start", "create"]
    assert api.post(f"{path}abort/", {"reason": "no"}, format="json").json()["state"] == "aborting"


BAD_ROLLOUTS: dict[str, dict[str, Any]] = {
    "no stage": {"stages": []},
    "not up to 100": {"stages": [{"percent": 50}]},
    "falling": {"stages": [{"percent": 50}, {"percent": 10}, {"percent": 100}]},
    "no such version": {"target_version": "9.9.9"},
    "no such metric": {"gates": [{"metric": "luck", "threshold": 1}]},
}


@pytest.mark.parametrize("name", BAD_ROLLOUTS)
def test_a_rollout_that_makes_no_sense_is_400_and_leaves_nothing(api: APIClient, name: str) -> None:
    deployment = make_deployment()
    body = {
        "deployment": deployment.pk,
        "target_version": make_release(deployment.model).version,
        "stages": [{"percent": 100}],
        **BAD_ROLLOUTS[name],
    }
    response = api.post("/api/v1/rollouts/", body, format="json")
    assert response.status_code == 400, response.content
    assert set(response.json()) == {"code", "message", "details"}
    assert not Rollout.objects.exists()


def test_the_stable_version_is_no_target(api: APIClient) -> None:
    deployment = make_deployment()
    assert deployment.stable_version is not None
    body = {
        "deployment": deployment.pk,
        "target_version": deployment.stable_version.version,
        "stages": [{"percent": 100}],
    }
    assert api.post("/api/v1/rollouts/", body, format="json").status_code == 400


@pytest.mark.parametrize("step", ["start", "approve", "advance", "pause", "resume", "abort"])
def test_a_reader_takes_no_step(reader: APIClient, step: str) -> None:
    rollout = make_rollout()
    assert reader.get(f"/api/v1/rollouts/{rollout.pk}/").status_code == 200
    assert reader.post(f"/api/v1/rollouts/{rollout.pk}/{step}/").status_code == 403
    assert Rollout.objects.get().state == "draft"


@pytest.mark.parametrize(
    "path", ["join-tokens", "devices", "deployments", "rollouts", "installations"]
)
def test_a_stranger_sees_nothing(path: str) -> None:
    assert APIClient().get(f"/api/v1/{path}/").status_code == 401


def test_a_join_token_is_shown_once(api: APIClient) -> None:
    body = api.post("/api/v1/join-tokens/", {"name": "lab", "max_uses": 3}, format="json").json()
    assert body["token"].startswith("avj_")
    shown = api.get(f"/api/v1/join-tokens/{body['id']}/").json()
    assert "token" not in shown and "digest" not in shown
    assert api.post(f"/api/v1/join-tokens/{body['id']}/revoke/").json()["revoked_at"]
    assert JoinToken.objects.get().uses == 0


def test_a_person_accepts_labels_and_suspends_a_device(api: APIClient) -> None:
    device, _ = make_device(status="pending")
    path = f"/api/v1/devices/{device.device_id}/"
    assert api.post(f"{path}accept/").json()["status"] == "accepted"
    assert api.patch(path, {"labels": {"site": "x"}}, format="json").json()["labels"] == {
        "site": "x"
    }
    assert api.patch(path, {"labels": {"site": 3}}, format="json").status_code == 400
    assert (
        api.post(f"{path}suspend/", {"reason": "odd"}, format="json").json()["status"]
        == "suspended"
    )
    assert api.post(f"{path}reject/").status_code == 409
    assert Device.objects.get().generation == 3


def test_a_live_rollout_decides_the_stable_version(api: APIClient) -> None:
    rollout = make_rollout()
    path = f"/api/v1/rollouts/{rollout.pk}/start/"
    assert api.post(path).status_code == 200
    response = api.patch(
        f"/api/v1/deployments/{rollout.deployment_id}/",
        {"stable_version": rollout.target_version.version},
        format="json",
    )
    assert response.status_code == 400
    assert Deployment.objects.get().stable_version_id == rollout.previous_version_id


def test_telemetry_becomes_the_devices_state() -> None:
    device = make_client()
    response = device.client.post(
        "/api/devices/telemetry",
        {
            "resources": {"memory_percent": 40},
            "providers": {"active": ["cpu"]},
            "agent_version": "0.2.0",
            "running": {"digits": "a" * 64},
            "events": [],
            "unknown": 1,
        },
        content_type="application/json",
    )
    assert response.status_code == 200
    row = Device.objects.get()
    assert (row.agent_version, row.running) == ("0.2.0", {"digits": "a" * 64})


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"isa": ["avx2", "vnni"]}, ["avx2", "vnni"]),
        ({"isa": []}, []),
        ({"arch": "z80"}, ["avx2"]),
        ({"isa": "vnni"}, ["avx2"]),
        ({"isa": ["vnni", 7]}, ["avx2"]),
        ({"isa": ["vnni"] * 33}, ["avx2"]),
        ("vnni", ["avx2"]),
    ],
)
def test_an_updated_agent_tells_its_instruction_sets_anew(
    reported: Any, expected: list[str]
) -> None:
    device = make_client()
    Device.objects.update(capabilities={"arch": "x86_64", "isa": ["avx2"]})
    before = Device.objects.get().generation
    response = device.client.post(
        "/api/devices/telemetry", {"capabilities": reported}, content_type="application/json"
    )
    assert response.status_code == 200
    row = Device.objects.get()
    assert row.capabilities == {"arch": "x86_64", "isa": expected}
    assert row.generation == before + (expected != ["avx2"])
