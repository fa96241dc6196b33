"""One incident for each cause, named by what explains the rest and told in words."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ingest.models import DriftPolicy, Incident
from ingest.rules.causes import describe_breach, name_cause, power_words, times_words
from ingest.rules.windows import WindowCounts
from ingest.services.causes import close_unused_incidents
from ingest.services.evaluation import evaluate_model
from tests.factories.ingest import make_device, make_release, make_window

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVEN = [0.1] * 10
SKEWED = [0.05] * 4 + [0.35] + [0.05] * 4 + [0.25]

MEMBERS = {
    "all": range(12),
    "site=a": range(3),
    "site=b": range(3, 6),
    "site=c": range(6, 12),
    "hardware_class=x": range(8),
}


@pytest.mark.parametrize(
    ("bad", "breached", "cause"),
    [
        ({0, 1, 2}, ["all", "site=a", "hardware_class=x"], "site=a"),
        ({0, 1, 2, 3, 4, 5}, ["all", "site=a", "site=b", "hardware_class=x"], "site=a, site=b"),
        (set(range(12)), list(MEMBERS)[:5], "all"),
        (set(range(8)), ["all", "site=a", "site=b", "site=c", "hardware_class=x"],
         "hardware_class=x"),
        ({3, 4}, ["site=b"], "site=b"),
        ({11}, ["all"], "all"),
        (set(range(12)), ["all", "site=all-of-it", "hardware_class=only"], "all"),
    ],
)  # fmt: skip
def test_the_cause_is_the_smallest_slice_that_explains_the_rest(bad, breached, cause):
    found = name_cause(
        MEMBERS,
        {name: ["prediction_psi"] for name in breached},
        lambda devices, metric: bool(bad.intersection(devices)),
    )
    assert found == cause


def test_words_name_the_classes_and_how_many_times_as_often():
    details = {
        "plan": list(range(11)),
        "labels": [*map(str, range(10)), "other"],
        "reference": [100.0] * 10 + [0.0],
        "current": [40.0] * 4 + [300.0] + [40.0] * 4 + [310.0, 0.0],
    }
    words = describe_breach("prediction_psi", "site=line-b", 0.7, details)
    assert words == "line-b answers 9 and 4 three times as often as before"


@pytest.mark.parametrize(
    ("metric", "value", "details", "words"),
    [
        ("error_rate", 0.124, {}, "The fleet fails in 12.4 % of its inferences"),
        ("latency_p95_ratio", 2.3, {"p95_ms": 23.0, "reference_p95_ms": 10.0},
         "The fleet needs 2.3 times as long for an inference: p95 23.0 ms, before 10.0 ms"),
        ("feature_psi:input_mean", 1.0, {"wasserstein_sigma": 2.14},
         "The fleet is given other inputs than before: input_mean moved by 2.1 standard "
         "deviations"),
        ("changed_devices", 0.05, {"changed": 3},
         "The fleet has 3 devices that differ from their own past"),
        ("something_new", 0.5, {}, "The fleet: something_new is 0.5"),
        ("prediction_psi", 0.5, {}, "The fleet answers in another mix than before"),
    ],
)  # fmt: skip
def test_every_metric_has_words(metric, value, details, words):
    assert describe_breach(metric, "all", value, details) == words


def test_ratios_are_said_as_people_say_them():
    assert [times_words(r) for r in (2.1, 2.95, 2.5, 17.4)] == [
        "twice", "three times", "2.5 times", "17 times",
    ]  # fmt: skip


def test_the_power_line_says_what_is_found_and_what_it_would_take():
    power = {"found_psi": 0.41, "critical_psi": 0.25, "records_for_critical": 520}
    words = power_words({"power": power}, 210)
    assert words == (
        "With 210 effective records a PSI of 0.41 is found in nine of ten cases; one of 0.25 "
        "from 520 records on."
    )
    assert "never" in power_words({"power": {**power, "records_for_critical": None}}, 210)
    assert power_words({}, 210) == ""


@pytest.fixture
def variant():
    release = make_release()
    DriftPolicy.objects.create(model=release.version.model, min_devices=3, lookback_windows=1)
    return release


@pytest.fixture
def fleet(variant):
    return [
        make_device(
            f"edge-{i:02d}",
            variant,
            attributes={"site": f"line-{'abc'[i % 3]}", "hardware_class": "cpu"},
        )
        for i in range(12)
    ]


def report(fleet, variant, hour, bad_sites=()):
    for index, device in enumerate(fleet):
        is_bad = device.attributes["site"] in bad_sites
        rng = np.random.default_rng(1000 * hour + index)
        classes = rng.multinomial(400, SKEWED if is_bad else EVEN).tolist()
        counts = WindowCounts(n=400, classes=[*classes, 0])
        make_window(device, variant, START + hour * HOUR, counts)
    now = START + (hour + 1) * HOUR + timedelta(minutes=30)
    evaluate_model(model_id=variant.version.model_id, now=now)


@pytest.mark.django_db
def test_a_site_that_drifts_is_one_incident_with_its_metrics_inside(variant, fleet):
    for hour in range(3):
        report(fleet, variant, hour)
    for hour in range(3, 6):
        report(fleet, variant, hour, bad_sites=["line-b"])
    incident = Incident.objects.exclude(status="dropped").get()
    assert incident.status == "firing" and incident.slice == "site=line-b"
    assert incident.metric == "prediction_psi"
    assert str(incident).startswith("line-b answers 4 and 9 ")
    assert incident.devices_words == "4 of 4 devices"
    assert {finding.slice for finding in incident.findings.all()} >= {"site=line-b", "all"}
    assert incident.began_at == START + 3 * HOUR
    assert incident.events.filter(action="fired").count() == 1


@pytest.mark.django_db
def test_another_site_that_drifts_later_is_another_incident(variant, fleet):
    for hour in range(9):
        sites = [] if hour < 1 else ["line-b"] if hour < 6 else ["line-b", "line-a"]
        report(fleet, variant, hour, bad_sites=sites)
    names = Incident.objects.filter(status="firing").values_list("slice", flat=True)
    assert sorted(names) == ["site=line-a", "site=line-b"]


@pytest.mark.django_db
def test_an_incident_ends_when_its_cause_ends(variant, fleet):
    for hour in range(8):
        report(fleet, variant, hour, bad_sites=["line-b"] if 1 <= hour < 4 else [])
    incident = Incident.objects.exclude(status="dropped").get()
    assert incident.status == "resolved" and incident.resolved_at is not None
    assert set(incident.findings.values_list("status", flat=True)) <= {"resolved", "dropped"}


@pytest.mark.django_db
def test_it_is_closed_when_no_device_runs_the_version(variant, fleet):
    for hour in range(3):
        report(fleet, variant, hour, bad_sites=["line-b"])
    now = START + 4 * HOUR
    assert close_unused_incidents(now=now) == 0
    slug = variant.version.model.slug
    for device in fleet:
        device.running = {slug: "f" * 64}
        device.save()
    fleet[0].running = {slug: variant.manifest_sha256}
    fleet[0].save()
    assert close_unused_incidents(now=now) == 0
    fleet[0].running = {slug: "f" * 64}
    fleet[0].save()
    assert close_unused_incidents(now=now) == 1
    incident = Incident.objects.get()
    assert incident.status == "resolved"
    assert incident.events.first().reason == "No device runs 1.0.0 any more."
    assert not incident.findings.filter(status__in=Incident.OPEN_STATUSES).exists()
