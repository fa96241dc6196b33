"""What a device finds wrong becomes an incident that opens, follows and ends, and can be found."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from config.overview import things_to_do
from fleet.models import Device, DeviceIncident
from fleet.services import incidents
from fleet.services.telemetry import record_telemetry
from tests.factories.fleet import make_device

pytestmark = pytest.mark.django_db
DRIFT = {"kind": "drift", "model": "digits", "metric": "prediction_psi", "value": 0.8,
         "threshold": 0.5, "for_s": 60.0}  # fmt: skip
DISK = {"kind": "resource", "metric": "disk_free_mb", "value": 40.0, "threshold": 64.0}


def report(device: Device, *found: Any, **over: Any) -> None:
    record_telemetry(device=device, report={"incidents": list(found), **over})


@pytest.fixture
def device() -> Device:
    return make_device()[0]


def test_an_incident_opens_follows_ends_and_a_later_one_is_another(device: Device) -> None:
    for value in (0.8, 1.4, 0.9):
        report(device, {**DRIFT, "value": value}, running={"digits": "f" * 64})
    (row,) = DeviceIncident.objects.all()
    assert (row.value, row.worst, row.threshold) == (0.9, 1.4, 0.5)
    assert row.manifest_sha256 == "f" * 64
    assert row.is_firing
    assert 59 < (row.reported_at - row.opened_at).total_seconds() < 120
    report(device)
    report(device, DRIFT)
    first, second = DeviceIncident.objects.order_by("pk")
    assert not first.is_firing and second.is_firing


def test_of_free_disk_the_lowest_value_is_the_worst(device: Device) -> None:
    for value in (40.0, 12.0, 30.0):
        report(device, {**DISK, "value": value})
    assert DeviceIncident.objects.get().worst == 12.0


def test_an_agent_that_says_nothing_of_incidents_ends_none(device: Device) -> None:
    report(device, DRIFT)
    record_telemetry(device=device, report={"resources": {}})
    assert DeviceIncident.objects.get().is_firing


@pytest.mark.parametrize(
    "odd",
    [None, 7, {}, {"kind": "mood", "metric": "x"}, {"kind": "drift", "metric": ""},
     {"kind": "drift", "metric": "m" * 101}, {**DRIFT, "metric": None, "kind": ["drift"]}],
    ids=repr,
)  # fmt: skip
def test_what_is_no_incident_is_passed_over_alone(device: Device, odd: Any) -> None:
    report(device, odd, DRIFT, DRIFT)
    assert DeviceIncident.objects.count() == 1


@pytest.mark.parametrize(
    "over", [{"value": float("nan")}, {"value": "much"}, {"for_s": -5}, {"for_s": 1e300}], ids=repr
)
def test_odd_figures_of_an_incident_are_left_out_or_bounded(device: Device, over: Any) -> None:
    report(device, {**DRIFT, **over})
    row = DeviceIncident.objects.get()
    assert row.opened_at <= timezone.now()
    assert row.opened_at >= timezone.now() - incidents.LONGEST_AGO - timezone.timedelta(minutes=1)


def test_neither_a_flood_nor_years_of_incidents_fill_the_table(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(device, *({**DRIFT, "metric": f"m{n}"} for n in range(500)))
    assert DeviceIncident.objects.count() == incidents.MAX_FIRING
    monkeypatch.setattr(incidents, "KEPT_RESOLVED", 5)
    for _ in range(12):
        report(device)
        report(device, DRIFT)
    assert DeviceIncident.objects.filter(resolved_at__isnull=False).count() == 5
    assert DeviceIncident.objects.firing().count() == 1


def test_devices_are_found_by_what_fires_on_them(api: APIClient) -> None:
    drifting, full, well, over = (make_device()[0] for _ in range(4))
    report(drifting, DRIFT)
    report(full, DISK)
    report(over, DRIFT)
    report(over)

    def found(query: str) -> set[str]:
        rows = api.get(f"/api/v1/devices/?{query}").json()["results"]
        return {row["device_id"] for row in rows}

    assert found("firing=drift") == {drifting.device_id}
    assert found("firing=resource") == {full.device_id}
    assert {well.device_id, over.device_id} <= found("")
    assert api.get("/api/v1/devices/?firing=mood").status_code == 400
    (firing,) = api.get(f"/api/v1/devices/{drifting.device_id}/").json()["firing"]
    assert (firing["metric"], firing["model"], firing["value"]) == ("prediction_psi", "digits", 0.8)


def test_incidents_are_listed_filtered_and_need_permission(api: APIClient, device: Device) -> None:
    report(device, DRIFT, DISK)
    report(device, DISK)
    rows = api.get("/api/v1/device-incidents/?kind=drift&firing=false").json()["results"]
    assert [(row["metric"], row["is_firing"]) for row in rows] == [("prediction_psi", False)]
    path = f"/api/v1/device-incidents/?device={device.device_id}&firing=true"
    assert [row["metric"] for row in api.get(path).json()["results"]] == ["disk_free_mb"]
    stranger = APIClient()
    stranger.force_authenticate(User.objects.create(username="bob"))
    assert stranger.get("/api/v1/device-incidents/").status_code == 403
    bob = User.objects.get(username="bob")
    bob.user_permissions.add(Permission.objects.get(codename="view_deviceincident"))
    stranger.force_authenticate(User.objects.get(pk=bob.pk))
    assert stranger.get("/api/v1/device-incidents/").status_code == 200


def test_the_lists_cost_the_same_however_many_devices_have_incidents(
    api: APIClient, django_assert_max_num_queries: Any
) -> None:
    admin = Client()
    admin.force_login(User.objects.get(username="ada"))
    for _ in range(12):
        report(make_device()[0], DRIFT, DISK)
    with django_assert_max_num_queries(4):
        assert len(api.get("/api/v1/devices/").json()["results"]) == 12
    with django_assert_max_num_queries(12):
        answer = admin.get(reverse("admin:fleet_device_changelist"), {"firing": "drift"})
    assert answer.content.decode().count("Drift and resource") == 12
    with django_assert_max_num_queries(12):
        page = admin.get(reverse("admin:fleet_deviceincident_changelist"), {"state": "firing"})
    assert "0.8 PSI" in page.content.decode()
    assert "40 MB" in page.content.decode()
    one = DeviceIncident.objects.first()
    assert one is not None
    assert admin.get(reverse("admin:fleet_deviceincident_change", args=[one.pk])).status_code == 200


def test_devices_that_drift_wait_for_a_person_on_the_overview(device: Device) -> None:
    assert not any("drift" in row["text"] for row in things_to_do())
    report(device, DRIFT, DISK)
    (row,) = (row for row in things_to_do() if "drift" in row["text"])
    assert row["text"].startswith("1 device ")
    assert row["url"].endswith("?firing=drift")
