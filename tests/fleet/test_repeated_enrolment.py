"""A device whose answer to an enrolment was lost asks again; nobody else gets an answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import Device, JoinToken
from fleet.services import devices
from registry.models import AuditEvent
from tests.factories.fleet import make_join_token

pytestmark = pytest.mark.django_db

NONCE = "n" * 43
DEVICE = "edge-lost"


def enrol(**over: Any) -> Any:
    body = {"device_id": DEVICE, "enrolment_nonce": NONCE, **over}
    return Client().post("/api/devices/enroll", body, content_type="application/json")


def poll(token: str) -> int:
    response = Client().get("/api/models/desired", headers={"Authorization": f"Bearer {token}"})
    return response.status_code


def test_a_repeat_gets_a_token_of_its_own_and_uses_no_join_token_up() -> None:
    secret = make_join_token(max_uses=1)
    first = enrol(join_token=secret)
    second = enrol(join_token=secret)
    third = enrol(join_token=secret)
    assert [first.status_code, second.status_code, third.status_code] == [201, 201, 201]
    tokens = [answer.json()["token"] for answer in (first, second, third)]
    assert [poll(token) for token in tokens] == [401, 401, 200], "only the newest works"
    assert JoinToken.objects.get().uses == 1
    assert Device.objects.get(device_id=DEVICE).credentials.count() == 3
    assert AuditEvent.objects.filter(action="device.enrolment_repeated").count() == 2


def test_a_pending_device_s_repeat_is_pending_still() -> None:
    secret = make_join_token(max_uses=1, is_auto_accept=False)
    assert [enrol(join_token=secret).status_code for _ in range(2)] == [202, 202]


def test_a_join_token_that_ran_out_meanwhile_does_not_matter() -> None:
    secret = make_join_token()
    enrol(join_token=secret)
    JoinToken.objects.update(expires_at=timezone.now() - timedelta(days=1))
    assert enrol(join_token=secret).status_code == 201


def see_device() -> None:
    Device.objects.update(last_seen_at=timezone.now() + timedelta(seconds=1))


def decommission() -> None:
    devices.set_device_status(device_id=DEVICE, status="decommissioned", actor="tester")


def rotate() -> None:
    devices.rotate_credential(device_id=DEVICE, actor="tester")


#: What happened since, what the second call says, and its answer's status.
REFUSED: dict[str, tuple[Any, dict[str, Any], int]] = {
    "another nonce": (None, {"enrolment_nonce": "m" * 43}, 409),
    "no nonce": (None, {"enrolment_nonce": ""}, 409),
    "a nonce too short to be a secret": (None, {"enrolment_nonce": "n" * 8}, 400),
    "the device has called with its token": (see_device, {}, 409),
    "the device was decommissioned": (decommission, {}, 409),
    "a person rotated its credential": (rotate, {}, 409),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nobody_else_and_no_later_call_gets_a_token(name: str) -> None:
    act, over, status = REFUSED[name]
    secret = make_join_token()
    assert enrol(join_token=secret).status_code == 201
    if act is not None:
        act()
    before = Device.objects.get(device_id=DEVICE).credentials.count()
    assert enrol(join_token=secret, **over).status_code == status
    assert Device.objects.get(device_id=DEVICE).credentials.count() == before


def test_a_nonce_opens_no_other_device() -> None:
    secret = make_join_token()
    enrol(join_token=secret)
    enrol(join_token=secret, device_id="edge-other", enrolment_nonce="o" * 43)
    assert enrol(join_token=secret, device_id="edge-other").status_code == 409


def test_the_nonce_is_kept_as_a_digest_only() -> None:
    enrol(join_token=make_join_token())
    kept = Device.objects.get(device_id=DEVICE).credentials.get().nonce_digest
    assert len(kept) == 64
    assert NONCE not in kept
