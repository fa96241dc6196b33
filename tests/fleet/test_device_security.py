"""Who may call what: every refusal has its status and the one error shape."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import Device, DeviceCredential, Installation, JoinToken
from fleet.services import devices
from registry.models import AuditEvent
from tests.factories.fleet import (
    DeviceClient,
    make_client,
    make_deployment,
    make_device,
    make_join_token,
)

pytestmark = pytest.mark.django_db

CALLS = {
    "latest": ("get", "/api/models/latest"),
    "desired": ("get", "/api/models/desired"),
    "events": ("post", "/api/deployments/m.1.abcdefabcdef/events"),
    "telemetry": ("post", "/api/devices/telemetry"),
    "samples": ("post", "/api/devices/samples"),
    "agent": ("get", "/api/agent/"),
}
HEADERS = {
    "no header": {},
    "unknown token": {"Authorization": "Bearer nobody"},
    "another scheme": {"Authorization": "Basic bm86bm8="},
    "empty token": {"Authorization": "Bearer "},
    "enormous token": {"Authorization": "Bearer " + "x" * 5000},
}


def call(client: Client, name: str, **extra: Any) -> Any:
    method, path = CALLS[name]
    if method == "get":
        return client.get(path, **extra)
    return client.post(path, "{}", content_type="application/json", **extra)


def assert_error(response: Any, status: int, code: str | None = None) -> None:
    assert response.status_code == status, response.content
    body = response.json()
    assert set(body) == {"code", "message", "details"}
    if code is not None:
        assert body["code"] == code


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("name", CALLS)
def test_without_a_known_token_every_call_is_401(name: str, header: str) -> None:
    response = call(Client(), name, headers=HEADERS[header])
    assert_error(response, 401)
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("status", ["pending", "suspended"])
@pytest.mark.parametrize("name", CALLS)
def test_a_device_that_is_not_accepted_gets_403(name: str, status: str) -> None:
    device = make_client(status=status)
    assert_error(call(device.client, name), 403, f"device_{status}")


def test_a_decommissioned_device_gets_401() -> None:
    device = make_client()
    devices.set_device_status(
        device_id=device.device.device_id, status="decommissioned", actor="tester"
    )
    assert_error(call(device.client, "latest"), 401)


def test_a_rotated_credential_stops_working_at_once() -> None:
    device = make_client()
    token = devices.rotate_credential(device_id=device.device.device_id, actor="tester")
    assert_error(call(device.client, "desired"), 401)
    assert call(DeviceClient(device.device, token).client, "desired").status_code == 200


@pytest.mark.parametrize("path", ["/api/models/latest", "/api/models/desired"])
def test_naming_another_device_in_the_query_is_403(path: str) -> None:
    one, other = make_client(), make_client()
    response = one.client.get(path, {"device_id": other.device.device_id})
    assert_error(response, 403, "wrong_device")


def test_naming_another_device_in_a_body_is_403() -> None:
    one, other = make_client(), make_client()
    response = one.client.post(
        "/api/devices/telemetry",
        {"device_id": other.device.device_id, "resources": {}},
        content_type="application/json",
    )
    assert_error(response, 403, "wrong_device")
    assert not other.device.telemetry.exists()


def test_a_device_cannot_write_the_events_of_another() -> None:
    model = make_deployment(selector={"device_id": ["edge-victim"]}).model.slug
    victim, thief = make_client(device_id="edge-victim"), make_client()
    answer = victim.install(model)
    before = Installation.objects.get(device=victim.device)
    response = thief.report(answer["assignment_id"], "failed", start=50)
    assert_error(response, 404, "assignment_unknown")
    after = Installation.objects.get()
    assert (after.device_id, after.state, after.last_seq) == (
        victim.device.pk,
        "committed",
        before.last_seq,
    )


def test_a_persons_login_is_no_device(django_user_model: Any) -> None:
    client = Client()
    client.force_login(django_user_model.objects.create_superuser("root"))
    assert_error(call(client, "desired"), 401)


def test_a_device_token_opens_no_persons_address() -> None:
    device = make_client()
    assert device.client.get("/api/v1/devices/").status_code == 401


def enrol(**over: Any) -> Any:
    body = {"device_id": "edge-new", "attributes": {}, "capabilities": {}, **over}
    return Client().post("/api/devices/enroll", body, content_type="application/json")


def test_enrolment_answers_the_token_once_and_keeps_its_digest() -> None:
    response = enrol(join_token=make_join_token(labels={"line": "3"}), unknown_field=1)
    assert response.status_code == 201, response.content
    body = response.json()
    assert {"device_id", "token", "status", "trust_keys", "poll_after_s"} <= set(body)
    assert {role for key in body["trust_keys"] for role in key["roles"]} == {
        "manifest",
        "assignment",
    }
    credential = DeviceCredential.objects.get()
    assert body["token"] not in credential.digest and len(credential.digest) == 64
    assert Device.objects.get().labels == {"line": "3"}


def test_enrolment_without_auto_accept_is_202_and_pending() -> None:
    response = enrol(join_token=make_join_token(is_auto_accept=False))
    assert (response.status_code, response.json()["status"]) == (202, "pending")


@pytest.mark.parametrize("case", ["unknown", "expired", "revoked", "used up"])
def test_a_bad_join_token_is_401_and_makes_no_device(case: str) -> None:
    secret = make_join_token(max_uses=1)
    row = JoinToken.objects.get()
    if case == "expired":
        row.expires_at = timezone.now() - timedelta(seconds=1)
    elif case == "revoked":
        row.revoked_at = timezone.now()
    elif case == "used up":
        row.uses = 1
    row.save()
    response = enrol(join_token="nothing" if case == "unknown" else secret)
    assert_error(response, 401, "join_token_invalid")
    assert not Device.objects.exists()


def test_a_taken_id_is_409_and_costs_no_use() -> None:
    taken, _ = make_device()
    secret = make_join_token(max_uses=1)
    assert_error(enrol(join_token=secret, device_id=taken.device_id), 409, "device_exists")
    assert JoinToken.objects.order_by("-id")[0].uses == 0
    assert enrol(join_token=secret).status_code == 201


def test_a_registered_id_is_taken_over_once() -> None:
    devices.register_device(device_id="edge-new", labels={"line": "9"}, actor="tester")
    secret = make_join_token(is_auto_accept=True, max_uses=2)
    response = enrol(join_token=secret)
    assert (response.status_code, response.json()["status"]) == (201, "accepted")
    assert_error(enrol(join_token=secret), 409)


def test_a_registered_id_is_not_taken_over_by_a_token_without_auto_accept() -> None:
    devices.register_device(device_id="edge-new", labels={"line": "9"}, actor="tester")
    weak = make_join_token(is_auto_accept=False, max_uses=2)
    assert_error(enrol(join_token=weak), 409, "device_exists")
    assert not DeviceCredential.objects.exists()
    assert enrol(join_token=make_join_token()).json()["status"] == "accepted"


@pytest.mark.parametrize("status", ["accepted", "suspended", "decommissioned", "rejected"])
@pytest.mark.parametrize("is_auto_accept", [True, False])
def test_a_person_lets_a_device_in_again_under_its_id(
    api: Any, status: str, is_auto_accept: bool
) -> None:
    device, old = make_device(device_id="edge-new")
    Device.objects.update(status=status, running={"m": "a" * 64})
    secret = make_join_token(is_auto_accept=is_auto_accept, max_uses=5)
    assert_error(enrol(join_token=secret), 409, "device_exists")
    path = f"/api/v1/devices/{device.device_id}/let-in-again/"
    assert api.post(path, {}, format="json").json()["code"] == "reason_required"
    answer = api.post(path, {"reason": "new card"}, format="json")
    assert answer.status_code == 200 and answer.json()["readmitted_until"]
    response = enrol(join_token=secret)
    suspended = status == "suspended"
    expected = "suspended" if suspended else "accepted" if is_auto_accept else "pending"
    assert response.json()["status"] == expected, response.content
    assert response.json()["token"] != old
    row = Device.objects.get()
    assert (row.readmitted_until, row.running) == (None, {})
    assert row.credentials.filter(revoked_at__isnull=True).count() == 1
    assert_error(enrol(join_token=secret), 409, "device_exists")
    assert AuditEvent.objects.filter(action="device.let_in_again", actor="ada").exists()


def test_the_permission_to_come_again_ends() -> None:
    make_device(device_id="edge-new")
    devices.let_in_again(device_id="edge-new", actor="tester", reason="new card")
    Device.objects.update(readmitted_until=timezone.now())
    assert_error(enrol(join_token=make_join_token()), 409, "device_exists")


def test_the_page_lets_a_device_in_again(ada: Any) -> None:
    device, _ = make_device(device_id="edge-new")
    ada.post(f"/admin/fleet/device/{device.pk}/act/let_in_again/", {"reason": "new card"})
    assert (
        "may enrol it again" in ada.get(f"/admin/fleet/device/{device.pk}/change/").content.decode()
    )
    assert enrol(join_token=make_join_token()).status_code == 201


@pytest.mark.parametrize("bad", ["", "a b", "../x", "x" * 200, "-x"])
def test_a_bad_device_id_is_400(bad: str) -> None:
    assert_error(enrol(join_token=make_join_token(), device_id=bad), 400)


def test_samples_need_permission() -> None:
    device = make_client()
    assert_error(call(device.client, "samples"), 403, "sampling_not_allowed")
