"""Judgements, incidents and evidence on real rows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ingest.exceptions import IncidentStateError, InvalidMuteError
from ingest.models import AlertRule, DriftEvaluation, DriftPolicy, Incident
from ingest.rules.windows import WindowCounts
from ingest.services.evaluation import evaluate_model, judged_period, models_to_judge
from ingest.services.incidents import acknowledge_incident, mute_incident
from registry.models import AuditEvent
from tests.factories.ingest import make_device, make_release, make_window

pytestmark = pytest.mark.django_db
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVEN = [0.1] * 10
SKEWED = [0.55] + [0.05] * 9


@pytest.fixture
def variant():
    release = make_release()
    DriftPolicy.objects.create(model=release.version.model, min_devices=3, lookback_windows=1)
    return release


@pytest.fixture
def devices(variant):
    return [
        make_device(f"edge-{i}", variant, attributes={"site": ("lyon", "graz")[i % 2]})
        for i in range(8)
    ]


def counts(seed, shares, n=400):
    classes = np.random.default_rng(seed).multinomial(n, shares).tolist()
    return WindowCounts(n=n, classes=[*classes, 0])


def report(devices, variant, hour, shares, **over):
    for seed, device in enumerate(devices):
        make_window(device, variant, START + hour * HOUR, counts(hour * 100 + seed, shares), **over)


def judge(variant, hour):
    """Judges once hour number `hour` is complete and its reports are in."""
    now = START + (hour + 1) * HOUR + timedelta(minutes=30)
    return evaluate_model(model_id=variant.version.model_id, now=now)


def prediction(hour, name="all"):
    return DriftEvaluation.objects.get(
        metric="prediction_psi", slice=name, period_end=START + (hour + 1) * HOUR
    )


def test_each_slice_is_judged_and_kept_with_the_rule_as_it_was(variant, devices):
    report(devices, variant, 0, EVEN)
    assert judge(variant, 0) > 0
    row = prediction(0)
    assert row.status == "healthy" and row.n == 3200 and row.devices == 8
    assert row.baseline is not None and row.rule["min_devices"] == 3
    assert prediction(0, "site=lyon").devices == 4


def test_a_period_is_judged_once(variant, devices):
    report(devices, variant, 0, EVEN)
    judge(variant, 0)
    assert judge(variant, 0) == 0


def test_a_disabled_policy_judges_nothing(variant, devices):
    DriftPolicy.objects.update(is_enabled=False)
    report(devices, variant, 0, EVEN)
    assert judge(variant, 0) == 0


def test_only_complete_windows_are_judged(settings):
    settings.AVIARY_WINDOW_SECONDS = 3600
    start, end = judged_period(START + 2 * HOUR + timedelta(minutes=1), 1)
    assert (start, end) == (START, START + HOUR)


def test_drift_raises_one_incident_per_key_and_its_end_resolves_it(variant, devices):
    for hour, shares in enumerate([SKEWED, SKEWED, SKEWED, EVEN, EVEN, EVEN]):
        report(devices, variant, hour, shares)
        judge(variant, hour)
        if hour == 0:
            assert Incident.objects.get(slice="all").status == Incident.Status.PENDING
    incident = Incident.objects.get(slice="all", metric="prediction_psi")
    assert incident.status == Incident.Status.RESOLVED
    assert incident.severity == AlertRule.Level.CRITICAL
    actions = list(incident.events.order_by("id").values_list("action", flat=True))
    assert actions == ["opened", "fired", "resolved"]


def test_silent_devices_turn_a_firing_incident_to_no_data(variant, devices):
    for hour in (0, 1):
        report(devices, variant, hour, SKEWED)
        judge(variant, hour)
    now = START + 4 * HOUR
    assert variant.version.model_id in models_to_judge(now)
    judge(variant, 3)
    assert Incident.objects.get(slice="all").status == Incident.Status.NO_DATA


def fired(variant, devices):
    for hour in (0, 1):
        report(devices, variant, hour, SKEWED)
        judge(variant, hour)
    return Incident.objects.get(slice="all")


def test_acknowledging_is_recorded_once_with_its_actor(variant, devices):
    incident = fired(variant, devices)
    for _ in range(2):
        acknowledge_incident(incident_id=incident.pk, actor="ada", now=START, reason="looking")
    incident.refresh_from_db()
    assert incident.status == Incident.Status.ACKNOWLEDGED and incident.acknowledged_by == "ada"
    assert incident.events.filter(action="acknowledged").count() == 1
    assert AuditEvent.objects.filter(action="incident.acknowledged").count() == 1


def test_a_pending_incident_cannot_be_acknowledged(variant, devices):
    report(devices, variant, 0, SKEWED)
    judge(variant, 0)
    incident = Incident.objects.get(slice="all")
    with pytest.raises(IncidentStateError):
        acknowledge_incident(incident_id=incident.pk, actor="ada", now=START)


@pytest.mark.parametrize(
    ("reason", "after"),
    [("", timedelta(hours=1)), ("known", timedelta(0)), ("known", timedelta(days=31))],
)
def test_a_mute_needs_a_reason_and_an_end(variant, devices, reason, after):
    incident = fired(variant, devices)
    with pytest.raises(InvalidMuteError):
        mute_incident(
            incident_id=incident.pk, actor="ada", reason=reason, until=START + after, now=START
        )
    incident.refresh_from_db()
    assert incident.muted_until is None


def test_a_muted_incident_goes_on_being_judged(variant, devices):
    incident = fired(variant, devices)
    mute_incident(
        incident_id=incident.pk, actor="ada", reason="known", until=START + HOUR, now=START
    )
    report(devices, variant, 2, SKEWED)
    judge(variant, 2)
    incident.refresh_from_db()
    assert incident.status == Incident.Status.FIRING
