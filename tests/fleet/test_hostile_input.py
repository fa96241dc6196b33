"""What a device, or somebody with a join token, may not make the server keep or fail on."""

import json

import pytest
from django.test import Client

from fleet.models import Device
from fleet.services.poll_notes import flush_polls
from tests.factories.fleet import make_client, make_deployment, make_join_token

pytestmark = pytest.mark.django_db

UNSTORABLE = [
    '"a\\u0000"', '"\\ud83d"', "1e999", "NaN", str(2**70), "[" * 3000 + "]" * 3000,
    '{"k\\u0000": 1}',
]  # fmt: skip
ODD_CAPABILITIES = [
    {"providers": [{}]}, {"providers": [["cpu"]]}, {"providers": "cpu"}, {"providers": [None]},
    {"providers": ["cpu"] * 65}, {"isa": [{}]}, {"isa": "avx2"}, {"features": {"a": 1}},
    {"features": [1]}, {"memory_mb": "x"}, {"memory_mb": [1]}, {"memory_mb": True},
    {"memory_mb": -1}, {"arch": [1]}, {"arch": {}}, {"runtime_version": 3},
    {"runtime_version": "1" * 201}, {"agent_version": []}, {"x": "y" * 20_000},
]  # fmt: skip


def enrol(capabilities, device_id="edge-new"):
    token = make_join_token(is_auto_accept=True, max_uses=1000)
    head = json.dumps({"device_id": device_id, "join_token": token})[:-1]
    body = f'{head}, "capabilities": {capabilities}}}'
    return Client().post("/api/devices/enroll", body, content_type="application/json")


@pytest.mark.parametrize("value", UNSTORABLE)
def test_what_cannot_be_stored_is_refused_on_every_call_of_a_device(value):
    deployment = make_deployment()
    device = make_client()
    assignment = device.poll(deployment.model.slug).json()["assignment_id"]
    assert enrol(f'{{"cpu": {value}}}').status_code == 400
    event = f'{{"seq": 1, "state": "failed", "detail": {value}}}'
    calls = {
        "/api/devices/telemetry": f'{{"resources": {{"a": {value}}}}}',
        f"/api/deployments/{assignment}/events": f"[{event}]",
    }
    for path, body in calls.items():
        answer = device.client.post(path, body, content_type="application/json")
        assert answer.status_code == 400, (path, answer.content)
        assert answer.json()["details"]


@pytest.mark.parametrize("capabilities", ODD_CAPABILITIES, ids=lambda item: str(item)[:40])
def test_capabilities_of_another_type_are_refused_and_break_no_poll(capabilities):
    answer = enrol(json.dumps(capabilities))
    assert answer.status_code == 400, answer.content
    assert (
        next(iter(capabilities)) in answer.json()["message"] or "bytes" in answer.json()["message"]
    )
    assert not Device.objects.exists()


def test_a_report_cannot_fill_a_device_s_row():
    device = make_client()
    for running in (
        {f"m{n}": "a" * 64 for n in range(65)},
        {"m": "x" * 200},
        {"m" * 300: "a" * 64},
        {"m": 3},
    ):
        answer = device.client.post(
            "/api/devices/telemetry", {"running": running}, content_type="application/json"
        )
        assert answer.status_code == 400, running
    for start in range(0, 300, 60):
        running = {f"m{n}": "a" * 64 for n in range(start, start + 60)}
        answer = device.client.post(
            "/api/devices/telemetry", {"running": running}, content_type="application/json"
        )
        assert answer.status_code == 200
    kept = Device.objects.get().running
    assert len(kept) == 64 and "m299" in kept


def test_polls_for_invented_models_cannot_fill_a_device_s_row():
    device = make_client()
    for number in range(150):
        device.client.get(
            f"/api/models/latest?model=m{number}", headers={"X-Running-Digest": "a" * 64}
        )
    flush_polls()
    assert len(Device.objects.get().running) <= 64


@pytest.mark.parametrize("number", ["²", "9" * 5000, "1\0", "-1", ""])
def test_an_odd_assignment_id_is_unknown(number):
    device = make_client()
    answer = device.client.post(
        f"/api/deployments/m.{number}.abcdefabcdef/events",
        [{"seq": 1, "state": "downloading"}],
        content_type="application/json",
    )
    assert answer.status_code == 404


@pytest.mark.parametrize("state", [["x"], {}, None, 3])
def test_a_state_of_another_type_is_refused(state):
    deployment = make_deployment()
    device = make_client()
    assignment = device.poll(deployment.model.slug).json()["assignment_id"]
    answer = device.client.post(
        f"/api/deployments/{assignment}/events",
        [{"seq": 1, "state": state}],
        content_type="application/json",
    )
    assert answer.status_code == 400


def test_a_device_that_calls_too_often_is_told_when_to_come_back(settings):
    settings.AVIARY_QUOTAS = {**settings.AVIARY_QUOTAS, "telemetry": 3, "enrol": 2}
    device, other = make_client(), make_client()
    answers = [
        device.client.post("/api/devices/telemetry", {}, content_type="application/json")
        for _ in range(8)
    ]
    assert answers[-1].status_code == 429 and 0 < int(answers[-1]["Retry-After"]) <= 61
    assert other.client.post(
        "/api/devices/telemetry", {}, content_type="application/json"
    ).status_code == 200  # fmt: skip
    assert [enrol("{}", f"e{n}").status_code for n in range(6)][-1] == 429


@pytest.mark.parametrize(
    "path", ["drift", "incidents", "rollouts", "devices", "models", "inbox", "compression/jobs"]
)
def test_a_filter_that_does_not_exist_is_refused_with_those_that_do(api, path):
    answer = api.get(f"/api/v1/{path}/?no_such=1")
    assert answer.status_code == 400, answer.content
    assert "no_such" in answer.json()["message"] and "page_size" in answer.json()["message"]
    assert api.get(f"/api/v1/{path}/?page_size=5").status_code == 200


def test_an_address_with_nul_is_refused(api):
    assert api.get("/api/v1/models/a%00b/").status_code == 404
    assert api.get("/api/v1/drift/?model=a%00b").status_code == 400
