"""Many devices at once: nothing is half done, nothing moves unasked, one bad row stops no other."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from fleet.models import Device, DeviceGroup
from fleet.services import device_batches
from fleet.services.enrolment import enrol_device
from registry.models import AuditEvent
from tests.factories.fleet import make_client, make_deployment, make_join_token, make_release

pytestmark = pytest.mark.django_db
REGISTER, LABEL = "/api/v1/devices/register-many/", "/api/v1/devices/label-many/"
GROUPS = "/api/v1/device-groups/"


def test_rows_are_registered_and_those_that_cannot_be_are_named(api: APIClient) -> None:
    make_client(device_id="known-1")
    body = {
        "devices": [
            {"device_id": "new-1", "labels": {"site": "lyon"}},
            {"device_id": "known-1"},
            {"device_id": "bad id"},
            {"device_id": "new-1"},
            {"device_id": "new-2", "labels": {"site": 7}},
            {"device_id": "new-3", "status": "accepted"},
            "no object",
            {"device_id": "new-4"},
        ]
    }
    dry = api.post(REGISTER, {**body, "is_dry_run": True}, format="json").json()
    assert Device.objects.count() == 1
    done = api.post(REGISTER, body, format="json").json()
    assert {**dry, "is_dry_run": False} == done
    assert done["registered"] == ["new-1", "new-4"] and done["known"] == ["known-1"]
    assert [row["index"] for row in done["refused"]] == [2, 3, 4, 5, 6]
    assert all(row["reason"] for row in done["refused"])
    again = api.post(REGISTER, body, format="json").json()
    assert again["registered"] == [] and again["known"] == ["known-1", "new-1", "new-4"]
    events = AuditEvent.objects.filter(action="device.registered_many")
    assert [event.details["count"] for event in events] == [2]


def test_a_registered_device_keeps_its_labels_when_it_enrols(api: APIClient) -> None:
    text = "device_id,site,ring\nedge-a,lyon,\nedge-b,nice,early\n"
    answer = api.post(REGISTER, text, content_type="text/csv").json()
    assert answer["registered"] == ["edge-a", "edge-b"]
    assert Device.objects.get(device_id="edge-a").labels == {"site": "lyon"}
    device, _ = enrol_device(
        device_id="edge-b", join_token=make_join_token(), attributes={"site": "own"},
        capabilities={},
    )  # fmt: skip
    assert device.status == "accepted" and device.selectable["site"] == "nice"


@pytest.mark.parametrize(
    "text",
    ["", "name\na\n", "device_id,device_id\na,b\n", "device_id,site\na\n", "device_id\na,b\n",
     'device_id\n"a\n', "device_id\na\0\n"],
    ids=repr,
)  # fmt: skip
def test_a_file_that_is_no_such_table_is_refused_in_words(api: APIClient, text: str) -> None:
    answer = api.post(REGISTER, text, content_type="text/csv")
    assert answer.status_code == 400 and answer.json()["message"]
    assert not Device.objects.exists()


def test_no_more_rows_are_taken_than_may_be(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_batches, "MOST_REGISTERED", 2)
    rows = [{"device_id": f"d-{number}"} for number in range(3)]
    assert api.post(REGISTER, {"devices": rows}, format="json").status_code == 400
    assert api.post(REGISTER, {"devices": []}, format="json").status_code == 400
    monkeypatch.setattr(device_batches, "MOST_LABELLED", 0)
    make_client(attributes={"site": "lyon"})
    body = {"selector": {"site": ["lyon"]}, "set": {"ring": "early"}}
    assert api.post(LABEL, body, format="json").status_code == 400


def make_two_parts() -> tuple[Any, list[Any]]:
    """A deployment for all, one above it for the early ring, and four devices of two sites."""
    deployment = make_deployment()
    make_deployment(
        name="early", stable_version=make_release(deployment.model),
        selector={"ring": ["early"]}, priority=1,
    )  # fmt: skip
    clients = [make_client(attributes={"site": site}) for site in ("lyon", "lyon", "nice", "lyon")]
    return deployment, clients


def test_labels_of_many_devices_are_changed_once_a_dry_run_was_confirmed(api: APIClient) -> None:
    deployment, clients = make_two_parts()
    body: dict[str, Any] = {"selector": {"site": ["lyon"]}, "set": {"ring": "early", "old": None}}
    dry = api.post(LABEL, {**body, "is_dry_run": True}, format="json").json()
    assert (dry["devices"], dry["changed"], dry["moved"]) == (3, 3, 3)
    assert [row["devices"] for row in dry["moves"]] == [3]
    assert dry["moves"][0]["model"] == deployment.model.slug
    generations = list(Device.objects.order_by("pk").values_list("generation", flat=True))

    for confirmed, reason, code in (
        (None, "why", "confirmation_required"),
        (2, "why", "confirmation_required"),
        (3, " ", "reason_required"),
    ):
        answer = api.post(
            LABEL,
            {**body, "reason": reason, **({"confirmed_devices": confirmed} if confirmed else {})},
            format="json",
        )
        assert answer.json()["code"] == code
    assert not Device.objects.filter(labels__has_key="ring").exists()
    assert generations == list(Device.objects.order_by("pk").values_list("generation", flat=True))

    done = api.post(
        LABEL, {**body, "reason": "pilot", "confirmed_devices": 3}, format="json"
    ).json()
    assert {**dry, "is_dry_run": False} == done
    labels = [Device.objects.get(pk=client.device.pk).labels for client in clients]
    assert labels == [{"ring": "early"}, {"ring": "early"}, {}, {"ring": "early"}]
    event = AuditEvent.objects.get(action="device.labelled_many")
    assert event.details["reason"] == "pilot" and event.details["moves"] == done["moves"]
    versions = [client.poll(deployment.model.slug).json()["version"] for client in clients]
    assert len(set(versions)) == 2 and versions[2] not in (versions[0], versions[3])
    # Nothing is left to change, so nothing is to be confirmed.
    assert api.post(LABEL, body, format="json").json()["changed"] == 0


@pytest.mark.parametrize(
    "over",
    [
        {"selector": {}},
        {"selector": ["site"]},
        {"set": {}},
        {"set": {"site": "x" * 300}},
        {"group": "nobody"},
        {"selector": {"site": ["lyon"]}, "group": "lyon"},
    ],
    ids=str,
)
def test_a_change_that_names_no_devices_or_no_labels_is_refused(
    api: APIClient, over: dict[str, Any]
) -> None:
    make_two_parts()
    body = {"selector": {"site": ["lyon"]}, "set": {"ring": "early"}, "reason": "r", **over}
    if over.get("group") == "nobody":
        del body["selector"]
    answer = api.post(LABEL, {**body, "confirmed_devices": 10}, format="json")
    assert answer.status_code == 400
    assert not Device.objects.filter(labels__has_key="ring").exists()


def test_a_group_is_kept_used_and_forgotten(api: APIClient) -> None:
    make_two_parts()
    made = api.post(GROUPS, {"name": "lyon", "selector": {"site": ["lyon"]}}, format="json").json()
    assert made["selector"] == {"site": ["lyon"]} and made["created_by"] == "ada"
    assert (
        api.post(GROUPS, {"name": "lyon", "selector": {"a": ["b"]}}, format="json").json()["code"]
        == "invalid"
    )
    assert api.post(GROUPS, {"name": "all", "selector": {}}, format="json").status_code == 400
    found = api.get("/api/v1/devices/", {"group": "lyon"}).json()["results"]
    assert len(found) == 3
    by_label = api.get("/api/v1/devices/", {"label": "site=lyon"}).json()["results"]
    assert by_label == found
    assert api.get("/api/v1/devices/", {"group": "nobody"}).status_code == 400
    assert api.get("/api/v1/devices/", {"label": "site"}).status_code == 400
    done = api.post(
        LABEL,
        {"group": "lyon", "set": {"ring": "early"}, "reason": "r", "confirmed_devices": 3},
        format="json",
    ).json()
    assert done["changed"] == 3
    address = f"{GROUPS}{made['id']}/"
    changed = api.patch(address, {"selector": {"site": ["nice"]}}, format="json").json()
    assert (changed["name"], changed["selector"]) == ("lyon", {"site": ["nice"]})
    assert api.delete(address).status_code == 204
    assert not DeviceGroup.objects.exists()
    actions = AuditEvent.objects.filter(action__startswith="group.").values_list(
        "action", flat=True
    )
    assert sorted(actions) == ["group.changed", "group.created", "group.removed"]


def test_another_selector_moves_devices_only_when_a_person_knows_how_many(
    api: APIClient,
) -> None:
    deployment, _ = make_two_parts()
    early = f"/api/v1/deployments/{deployment.model.deployments.get(name='early').pk}/"
    change: dict[str, Any] = {"selector": {"site": ["lyon"]}}
    refused = api.patch(early, change, format="json")
    assert refused.status_code == 409 and refused.json()["details"]["devices"] == 3
    change["confirmed_devices"] = 3
    assert api.patch(early, change, format="json").json()["code"] == "reason_required"
    change["reason"] = "the pilot is Lyon"
    assert api.patch(early, change, format="json").status_code == 200
    # What moves no device is asked nothing.
    assert api.patch(early, {"name": "lyon"}, format="json").status_code == 200
    retire = api.patch(early, {"state": "retired"}, format="json")
    assert retire.status_code == 409 and retire.json()["details"]["devices"] == 3
