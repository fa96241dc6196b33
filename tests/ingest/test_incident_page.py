"""An incident's page: the cause in words, its course from before the onset, rollouts beside it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from ingest.models import AlertRule, Incident, IncidentFinding
from ingest.selectors.incident_page import incident_course, rollout_markers
from tests.factories.ingest import make_evaluation, make_release

pytestmark = pytest.mark.django_db
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def incident():
    variant = make_release()
    rows = [
        make_evaluation(
            variant,
            slice="site=line-b",
            period_end=START + hour * HOUR,
            status="healthy" if hour < 30 else "critical",
            value=0.02 if hour < 30 else 0.6,
        )
        for hour in range(34)
    ]
    rule = AlertRule.objects.create(name="Any")
    row = Incident.objects.create(
        rule=rule,
        model=variant.version.model,
        version=variant.version,
        slice="site=line-b",
        metric="prediction_psi",
        headline="line-b answers 4 and 9 three times as often as before",
        status="firing",
        severity="critical",
        value=0.6,
        threshold=0.2,
        devices_changed=4,
        devices_tested=4,
        evaluation=rows[-1],
        onset_at=START + 29 * HOUR,
        opened_at=START + 30 * HOUR,
    )
    IncidentFinding.objects.create(
        incident=row,
        rule=rule,
        version=variant.version,
        slice="all",
        metric="confidence_drop",
        status="firing",
        opened_at=START + 31 * HOUR,
    )
    return row


def test_the_course_starts_before_the_onset(incident):
    Incident.objects.update(updated_at=START + 33 * HOUR)
    incident.refresh_from_db()
    course = incident_course(incident)
    assert course[0].period_end == START + 5 * HOUR
    assert course[-1].period_end == START + 33 * HOUR


def test_the_page_says_it_in_words_and_lists_what_is_inside(incident, admin_client: Client):
    page = admin_client.get(reverse("admin:ingest_incident_change", args=[incident.pk]))
    assert page.status_code == 200
    for words in (
        "line-b answers 4 and 9 three times as often as before since",
        "4 of 4 devices differ",
        "confidence_drop",
        "chart-history",
    ):
        assert words in page.text, words
    listed = admin_client.get(reverse("admin:ingest_incident_changelist"))
    assert "line-b answers 4 and 9" in listed.text and "4 of 4 devices" in listed.text


def test_the_judgements_page_has_the_power_line(incident, admin_client: Client):
    row = incident.evaluation
    row.details = {
        **row.details,
        "power": {"found_psi": 0.41, "critical_psi": 0.25, "records_for_critical": 520},
    }
    row.save()
    page = admin_client.get(reverse("admin:ingest_drift_detail", args=[row.pk]))
    assert "one of 0.25 from 520 records on." in page.text
    answer = admin_client.get(f"/api/v1/drift/{row.pk}/").json()
    assert answer["power"].startswith("With 1,500 effective records a PSI of 0.41")


def test_the_api_shows_findings_and_words(incident, admin_client: Client):
    row = admin_client.get(f"/api/v1/incidents/{incident.pk}/").json()
    assert row["headline"].startswith("line-b answers") and row["devices_changed"] == 4
    assert [(f["slice"], f["metric"]) for f in row["findings"]] == [("all", "confidence_drop")]


def test_without_rollouts_there_are_no_markers(incident):
    assert rollout_markers(incident.model_id, START, START + HOUR) == []
