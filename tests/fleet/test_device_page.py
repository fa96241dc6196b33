"""The page of one device: what it said of itself, in words, at a fixed price."""

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from fleet.admin.device_drift import drift_rows
from fleet.admin.device_resources import (
    HEIGHT,
    Report,
    describe_event,
    event_rows,
    provider_rows,
    resource_rows,
)
from fleet.models import Device, Telemetry
from fleet.services import telemetry
from fleet.services.samples import set_sampling
from fleet.sparklines import sparkline
from tests.factories.fleet import DeviceClient, make_client, make_deployment
from tests.factories.ingest import make_window_of

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REPORT: dict[str, Any] = {
    "resources": {"cpu_percent": 41.5, "memory_percent": 60.0, "disk_free_mb": 900.0},
    "providers": {
        "digits": {
            "requested": ["openvino", "cpu"],
            "active": ["cpu"],
            "fallbacks": [
                {"provider": "openvino", "kind": "missing", "detail": "not in this build"}
            ],
        }
    },
    "events": [
        {"kind": "drift_firing", "metric": "prediction_psi", "value": 0.81, "threshold": 0.5,
         "model": "digits"},
        {"kind": "resource_resolved", "metric": "cpu_percent", "value": 40.0, "threshold": 95.0},
    ],
    "spool": {
        "records": 12,
        "events": 0,
        "bytes": 40_000,
        "uploaded": 500,
        "rejected": 1,
        "dropped": 37,
        "dropped_full": 30,
        "dropped_busy": 4,
        "aside": 2,
        "aside_dropped": 3,
    },
    "drift": {
        "digits": {
            "status": "firing",
            "records": 640,
            "min_records": 100,
            "metrics": {
                "confidence_psi": {"value": 0.1, "threshold": 0.5, "resolves_below": 0.25},
                "prediction_psi": {"value": 0.81, "threshold": 0.5, "resolves_below": 0.25},
            },
        }
    },
    "incidents": [
        {"kind": "drift", "model": "digits", "metric": "prediction_psi", "value": 0.81,
         "threshold": 0.5, "for_s": 7200.0}
    ],
    "latency": {"digits": {"p50_ms": 1.0}},
    "sampling": {"is_enabled": True, "held": 7, "files": 1, "bytes": 2048, "dropped": 0},
}  # fmt: skip


@pytest.fixture
def device() -> DeviceClient:
    deployment = make_deployment()
    client = make_client(attributes={"hardware_class": "pi5"})
    client.install(deployment.model.slug)
    return client


def report(device: DeviceClient, **over: Any) -> Any:
    return device.client.post(
        "/api/devices/telemetry", {**REPORT, **over}, content_type="application/json"
    )


def read_page(ada: Client, device: DeviceClient) -> str:
    answer = ada.get(reverse("admin:fleet_device_change", args=[device.device.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def test_what_a_device_says_is_on_its_page(ada: Client, device: DeviceClient) -> None:
    for cpu in (10.0, 90.0, 41.5):
        assert (
            report(device, resources={**REPORT["resources"], "cpu_percent": cpu}).status_code == 200
        )
    page = read_page(ada, device)
    for words in (
        "41.5 %",
        "Processor: 3 reports from 10 to 90 %",
        "requested openvino, cpu, active cpu",
        "openvino · missing · not in this build",
        "falls back",
        "640 records since the release started here",
        "0.810 PSI",
        "prediction_psi: 3 reports from 0.810 to 0.810 PSI",
        "drift of digits: prediction_psi 0.81, threshold 0.5",
        "Processor: 40, threshold 95 %",
        "2\xa0hours ago",
        "The whole fleet&#x27;s drift of digits".replace("&#x27;", "'"),
        "30 for want of space, 4 because the disk could not keep up, 3 that had been set aside",
        "needs a look",
        "7 inputs held, 1 batch (2.05 kB) wait",
        "Nothing has arrived. Both switches must be on",
        "aviary-agent spool aside",
        "Its own numbers beside its hardware class",
    ):
        assert words in page, words


def test_a_report_is_answered_with_the_switch_of_sampling(device: DeviceClient) -> None:
    assert report(device).json()["is_sampling_allowed"] is False
    set_sampling(device_id=device.device.device_id, is_allowed=True, actor="ada")
    assert report(device).json()["is_sampling_allowed"] is True


def test_the_page_of_a_device_that_said_nothing_says_so(ada: Client) -> None:
    page = read_page(ada, make_client())
    for words in (
        "No telemetry yet",
        "None reported yet",
        "Not reported yet",
        "None in the reports kept",
        "None: the device has found neither drift nor a resource past its threshold",
    ):
        assert words in page, words


def test_the_page_costs_the_same_however_much_was_reported(
    ada: Client, device: DeviceClient, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(24) as few:
        read_page(ada, device)
    for _ in range(40):
        report(device)
    with django_assert_max_num_queries(24) as many:
        read_page(ada, device)
    assert len(many.captured_queries) <= len(few.captured_queries)


@pytest.mark.parametrize(
    "over",
    [{"events": "none"}, {"events": [1, None, "x"]}, {"drift": [1]}, {"spool": None},
     {"providers": {"digits": 7, "other": {"fallbacks": 3, "requested": "cpu"}}},
     {"resources": {"cpu_percent": "hot", "memory_percent": None, "strange": True}},
     {"drift": {"digits": {"status": "firing", "metrics": {"a": 1, "b": {"value": "x"},
      "c": {"value": 1.0, "threshold": 0}}}, "x": None, "y": {"status": []}}},
     {"incidents": "all"}, {"incidents": [None, {"kind": "mood"}, {"kind": "drift"}]}],
    ids=repr,
)  # fmt: skip
def test_strange_telemetry_is_taken_and_never_breaks_the_page(
    ada: Client, device: DeviceClient, over: dict[str, Any]
) -> None:
    assert report(device, **over).status_code == 200
    read_page(ada, device)


def test_a_part_that_is_too_large_is_refused_and_nothing_is_stored(device: DeviceClient) -> None:
    answer = report(device, drift={"digits": {str(n): 0.1 for n in range(10_000)}})
    assert answer.status_code == 400
    assert not Telemetry.objects.exists()


def test_the_reports_of_a_device_are_bounded(
    device: DeviceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "KEPT_TELEMETRY", 20)
    for _ in range(130):
        telemetry.record_telemetry(device=device.device, report={"resources": {"cpu_percent": 1.0}})
    assert 20 <= Telemetry.objects.filter(device=device.device).count() <= 20 + 50


def test_a_device_is_shown_beside_the_others_of_its_hardware_class(
    ada: Client, device: DeviceClient
) -> None:
    version = device.device.installations.latest("pk").version
    make_window_of(device.device, version, latency_ms=10.0, confidence=0.9)
    for number, hardware in enumerate(("pi5", "pi5", "jetson")):
        other = make_client(attributes={"hardware_class": hardware}).device
        make_window_of(other, version, latency_ms=20.0 + 1000 * (number == 2), confidence=0.5)
    page = read_page(ada, device)
    assert "2 others" in page
    own, others = page.split("this device</td>")[1].split("2 others</td>")
    assert "0.900" in own and "0.500" in others
    assert Device.objects.filter(attributes__hardware_class="jetson").exists()
    assert "1020" not in others


# --- pure ---------------------------------------------------------------------------------------


def make_reports(*values: Any) -> list[Report]:
    return [Report(NOW, {"cpu_percent": value}, []) for value in values]


def test_a_drawing_stays_in_its_box_and_needs_two_values() -> None:
    assert sparkline([1.0]) == ""
    points = [
        pair.split(",")
        for pair in sparkline([0.0, 250.0, 50.0], width=180, height=HEIGHT, top=100.0).split()
    ]
    assert [float(x) for x, _ in points] == [0.0, 90.0, 180.0]
    assert all(0 <= float(y) <= HEIGHT for _, y in points)


def test_a_percentage_is_drawn_from_nought_to_a_hundred() -> None:
    low, high = resource_rows(make_reports(1.0, 2.0)), resource_rows(make_reports(90.0, 99.0))
    assert low[0]["points"] != high[0]["points"]


def test_reports_without_a_number_leave_a_gap_and_no_row() -> None:
    assert resource_rows([]) == []
    assert resource_rows(make_reports(None, "x", True)) == []
    assert resource_rows(make_reports(5.0, None, 7.0))[0]["n"] == 2


def test_the_newest_events_come_first_and_are_bounded() -> None:
    reports = [
        Report(NOW, {}, [{"kind": "drift_firing", "metric": str(n), "value": 1}]) for n in range(50)
    ]
    rows = event_rows(reports)
    assert len(rows) == 20
    assert "drift of a model: 49" in rows[0]["words"]


@pytest.mark.parametrize(
    ("event", "state"),
    [({"kind": "drift_resolved"}, "resolved"), ({"kind": "resource_firing"}, "firing"),
     ({"kind": "reboot_seen", "why": "power"}, "reboot seen"), ({}, "event")],
)  # fmt: skip
def test_events_are_told_by_their_state(event: dict[str, Any], state: str) -> None:
    assert describe_event(event)["state"] == state


def make_drift(**values: float) -> dict[str, Any]:
    metrics = {name: {"value": value, "threshold": 0.5} for name, value in values.items()}
    return {"m": {"status": "healthy", "records": 300, "metrics": metrics}}


def test_metrics_of_drift_are_ranked_and_drawn_under_their_threshold() -> None:
    (row,) = drift_rows([make_drift(prediction_psi=0.2), make_drift(prediction_psi=0.4, b=0.1)])
    assert row["label"] == "Healthy"
    assert [metric["name"] for metric in row["metrics"]] == ["prediction_psi", "b"]
    first = row["metrics"][0]
    assert (first["unit"], first["n"], first["low"], first["high"]) == ("PSI", 2, 0.2, 0.4)
    assert not first["is_past"]
    heights = [float(pair.split(",")[1]) for pair in first["points"].split()]
    assert heights[0] > heights[1] > first["line_y"], "it rises towards the threshold"


def test_a_release_without_a_baseline_is_no_reference_and_no_report_is_no_row() -> None:
    (row,) = drift_rows([{"m": {"status": "no_reference", "records": 0, "metrics": {}}}])
    assert (row["label"], row["metrics"]) == ("No reference", [])
    assert drift_rows([]) == []


def test_providers_are_explained() -> None:
    (row,) = provider_rows({"m": {"requested": ["cuda"], "active": [], "refusal": "strict"}})
    assert row["reasons"] == ["refused to run: strict"]


ODD: tuple[Any, ...] = ("x", "", [], [1], {}, {"a": {"b": 1}}, None, True, -1, 1e308, 10**40)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield from paths_of(inner, (*path, key))


def replace_at(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = odd
    return changed


@pytest.mark.parametrize("path", paths_of(REPORT), ids=str)
def test_whatever_a_device_reports_its_page_is_shown(
    ada: Client, device: DeviceClient, path: tuple[Any, ...]
) -> None:
    for odd in ODD:
        answer = device.client.post(
            "/api/devices/telemetry",
            json.dumps(replace_at(REPORT, path, odd)),
            content_type="application/json",
        )
        assert answer.status_code in (200, 400), (odd, answer.content)
        if answer.status_code == 200:
            read_page(ada, device)
