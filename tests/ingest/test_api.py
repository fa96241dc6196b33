"""The management API and the pages."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.forms.models import model_to_dict
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ingest.models import AlertRule, DriftPolicy, Incident
from ingest.rules.windows import WindowCounts
from registry.models import AuditEvent, Model
from tests.factories.ingest import make_device, make_evaluation, make_release, make_window

pytestmark = pytest.mark.django_db


@pytest.fixture
def variant():
    return make_release()


@pytest.fixture
def client(db):
    user = User.objects.create_superuser("ada", password="secret")
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def reader(db):
    user = User.objects.create_user("bob", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="ingest", codename__startswith="view_")
    )
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def incident(variant):
    return Incident.objects.create(
        rule=AlertRule.objects.create(name="Any"),
        model=variant.version.model,
        version=variant.version,
        slice="all",
        metric="prediction_psi",
        status=Incident.Status.FIRING,
        opened_at=timezone.now(),
        evaluation=make_evaluation(variant),
    )


def test_a_judgement_carries_what_it_rests_on(client, variant):
    make_evaluation(variant)
    found = client.get("/api/v1/drift/?model=digits-cnn&metric=prediction_psi").json()["results"]
    assert {"psi", "n", "n_eff", "design_effect", "threshold", "devices"} <= set(found[0])
    assert found[0]["psi"] == 0.02 and found[0]["version"] == "1.0.0"
    assert client.get("/api/v1/drift/?model=other").json()["results"] == []


def test_a_list_of_judgements_costs_the_same_for_any_length(
    client, variant, django_assert_max_num_queries
):
    for index in range(20):
        make_evaluation(variant, slice=f"site={index}")
    with django_assert_max_num_queries(4):
        assert len(client.get("/api/v1/drift/").json()["results"]) == 20


def test_a_person_acknowledges_and_mutes(client, incident):
    address = f"/api/v1/incidents/{incident.pk}/acknowledge/"
    answer = client.post(address, {}, content_type="application/json")
    assert answer.status_code == 200 and answer.json()["acknowledged_by"] == "ada"
    until = (timezone.now() + timedelta(hours=1)).isoformat()
    answer = client.post(
        f"/api/v1/incidents/{incident.pk}/mute/",
        {"reason": "known", "until": until},
        content_type="application/json",
    )
    assert answer.json()["mute_reason"] == "known"
    assert len(client.get("/api/v1/incidents/?open=true").json()["results"]) == 1


def test_a_bad_mute_is_refused_in_the_one_error_shape(client, incident):
    answer = client.post(
        f"/api/v1/incidents/{incident.pk}/mute/", {}, content_type="application/json"
    )
    assert answer.status_code == 400 and set(answer.json()) == {"code", "message", "details"}


def test_who_may_only_look_cannot_acknowledge(reader, incident):
    assert reader.get("/api/v1/incidents/").status_code == 200
    assert reader.post(f"/api/v1/incidents/{incident.pk}/acknowledge/").status_code == 403
    incident.refresh_from_db()
    assert incident.status == Incident.Status.FIRING


def test_strangers_see_nothing(incident):
    for path in ("drift/", "incidents/", "models/digits-cnn/windows/"):
        assert Client().get(f"/api/v1/{path}").status_code in (401, 403)


def test_windows_and_latency_are_summed_over_devices(client, variant):
    for index in range(3):
        device = make_device(f"edge-{index}", variant, attributes={"hardware_class": "rk3588"})
        counts = WindowCounts(n=10, latency_n=10, latency={10: 10})
        make_window(device, variant, timezone.now() - timedelta(hours=1), counts)
    rows = client.get("/api/v1/models/digits-cnn/latency/").json()
    assert rows[0]["hardware_class"] == "rk3588" and rows[0]["devices"] == 3
    assert rows[0]["n"] == 30 and 1.6 < rows[0]["p95_ms"] < 1.7
    windows = client.get("/api/v1/models/digits-cnn/windows/").json()
    assert sum(row["n"] for row in windows) == 30


@pytest.mark.parametrize("query", ["since=soon", "since=2026-01-01T00:00:00Z"])
def test_a_bad_span_is_refused(client, variant, query):
    assert client.get(f"/api/v1/models/digits-cnn/windows/?{query}").status_code == 400


def test_the_policy_of_a_model_can_be_changed(client, variant):
    assert client.get("/api/v1/models/digits-cnn/drift-policy/").json()["min_devices"] == 20
    answer = client.patch(
        "/api/v1/models/digits-cnn/drift-policy/",
        {"min_devices": 3},
        content_type="application/json",
    )
    assert answer.json()["min_devices"] == 3
    assert DriftPolicy.objects.get().min_devices == 3
    event = AuditEvent.objects.get(action="drift_policy.changed")
    assert (event.actor, event.details) == (
        "ada", {"before": {"min_devices": 20}, "after": {"min_devices": 3}},
    )  # fmt: skip


def test_a_policy_changed_on_its_page_is_audited(client, variant):
    client.post(reverse("admin:ingest_driftpolicy_add"), policy_fields(min_devices=4))
    row = DriftPolicy.objects.get()
    page = reverse("admin:ingest_driftpolicy_change", args=[row.pk])
    assert client.post(page, policy_fields(min_devices=5)).status_code == 302
    assert DriftPolicy.objects.get().min_devices == 5
    events = AuditEvent.objects.filter(action="drift_policy.changed").order_by("pk")
    assert [event.details["after"]["min_devices"] for event in events] == [4, 5]
    assert {event.actor for event in events} == {"ada"}


def policy_fields(**over):
    """The form of a policy as its page sends it, with the defaults."""
    row = DriftPolicy(model=Model.objects.get())
    values = {k: v for k, v in model_to_dict(row).items() if v not in (None, False)}
    return {**values, **over}


def test_empty_pages_say_what_would_be_here(client, variant):
    page = client.get(reverse("admin:ingest_driftevaluation_changelist"))
    assert b"Nothing has been judged yet" in page.content
    page = client.get(reverse("admin:ingest_drift_model", args=["digits-cnn"]))
    assert b"No judgement of digits-cnn yet" in page.content
    assert client.get(reverse("admin:ingest_incident_changelist")).status_code == 200


def test_the_drift_page_answers_first_and_links_to_each_judgement(client, variant):
    row = make_evaluation(variant, status="critical", value=0.9)
    make_evaluation(variant, metric="error_rate", status="insufficient", value=None, details={})
    page = client.get(reverse("admin:ingest_drift_model", args=["digits-cnn"])).content.decode()
    assert "1 of 2 judgements" in page and row.get_absolute_url() in page
    assert 'class="insufficient"' in page and 'class="critical"' in page
    overview = client.get(reverse("admin:ingest_driftevaluation_changelist"))
    assert b"digits-cnn" in overview.content


def test_the_judgement_page_draws_with_the_installed_library_only(client, variant):
    row = make_evaluation(variant)
    page = client.get(row.get_absolute_url()).content.decode()
    assert "drift-charts" in page
    assert not re.search(r'(src|href)="(https?:)?//', page)
    (address,) = re.findall(r'src="/static/([^"]*chart\.js)"', page)
    script = finders.find(address)
    assert script and Path(script).stat().st_size > 100_000
    assert "Permission is hereby granted" in (Path(script).parent / "LICENSE").read_text()


@pytest.mark.parametrize("metric", ["error_rate", "latency_p95_ratio"])
def test_judgements_without_bins_have_a_page_too(client, variant, metric):
    row = make_evaluation(variant, metric=metric, details={}, value=None, threshold=None)
    assert client.get(row.get_absolute_url()).status_code == 200


def test_each_table_has_its_csv(client, variant):
    row = make_evaluation(variant, slice="=site")
    urls = [
        reverse("admin:ingest_drift_csv", args=["digits-cnn"]),
        reverse("admin:ingest_drift_bins_csv", args=[row.pk]),
        reverse("admin:ingest_drift_history_csv", args=[row.pk]),
    ]
    for url in urls:
        answer = client.get(url)
        assert answer["Content-Type"].startswith("text/csv")
        assert len(answer.getvalue().decode().splitlines()) >= 2
    assert "'=site" in client.get(urls[0]).getvalue().decode()


def test_alerts_are_acknowledged_from_the_list_and_the_page(client, incident):
    page = client.get(reverse("admin:ingest_incident_change", args=[incident.pk]))
    assert page.status_code == 200
    client.post(
        reverse("admin:ingest_incident_changelist"),
        {"action": "acknowledge_selected", "_selected_action": [incident.pk]},
    )
    incident.refresh_from_db()
    assert incident.status == Incident.Status.ACKNOWLEDGED


def test_the_drift_pages_need_the_permission(variant):
    user = User.objects.create_user("eve", is_staff=True)
    client = Client()
    client.force_login(user)
    assert client.get(reverse("admin:ingest_drift_model", args=["digits-cnn"])).status_code == 403
    assert client.get(make_evaluation(variant).get_absolute_url()).status_code == 403


@pytest.mark.parametrize("table", ["inboxbatch", "rejectedrecord", "window"])
def test_what_arrived_can_be_looked_at_only(client, table):
    assert client.get(reverse(f"admin:ingest_{table}_changelist")).status_code == 200
    assert client.get(reverse(f"admin:ingest_{table}_add")).status_code == 403
