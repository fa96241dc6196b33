"""The overview: what it says of an empty and of a busy server, at a fixed price."""

from datetime import timedelta
from itertools import count

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from config import overview
from fleet.models import Device, Quarantine
from ingest.models import AlertRule, InboxBatch, Incident, RejectedRecord
from registry.models import Variant
from tests.factories.fleet import make_deployment, make_rollout
from tests.factories.ingest import make_device, make_release
from tests.factories.registry import make_model, make_version

pytestmark = pytest.mark.django_db

#: Session and user, and one or two for each card.
MOST_QUERIES = 20
_numbers = count(1)


def fill_server(variant: Variant) -> None:
    """One more of everything that the overview counts or lists."""
    number = next(_numbers)
    now = timezone.now()
    digest = variant.manifest_sha256
    model = variant.version.model
    device = make_device(f"edge-{number}", variant, running={model.slug: digest}, last_seen_at=now)
    make_device(f"new-{number}", status=Device.Status.PENDING)
    Quarantine.objects.create(device=device, manifest_sha256=digest, reason="crashed")
    batch = InboxBatch.objects.create(
        device=device, batch_id=f"b{number}", received_at=now, payload=b"", accepted=100
    )
    RejectedRecord.objects.create(batch=batch, index=0, reason="no timestamp")
    Incident.objects.create(
        rule=AlertRule.objects.create(name=f"rule-{number}"),
        model=model,
        version=variant.version,
        slice=f"site=lyon-{number}",
        metric="prediction_psi",
        status=Incident.Status.FIRING,
        severity=AlertRule.Level.CRITICAL,
        opened_at=now,
    )


def open_overview(client: Client) -> tuple[str, int]:
    with CaptureQueriesContext(connection) as queries:
        response = client.get(reverse("admin:index"))
    assert response.status_code == 200
    return response.text, len(queries)


def test_an_empty_overview_says_what_fills_it(admin_client: Client) -> None:
    text, queries = open_overview(admin_client)
    for words in (
        "Devices appear here once they enrol",
        "No accepted device has reported yet",
        "Nothing waits for a decision",
        "No rollout yet",
        "No open incident",
    ):
        assert words in text, words
    assert queries <= MOST_QUERIES


def test_a_filled_overview_counts_and_names_what_needs_a_person(admin_client: Client) -> None:
    fill_server(make_release())
    text, _ = open_overview(admin_client)
    for words in (
        "2 devices",
        "50.0 % seen in the last 10 minutes",
        "1 accepted · 1 quarantined",
        "digits-cnn 1.0.0 · fp32",
        "1 device pending acceptance",
        "critical: prediction_psi of digits-cnn, site=lyon-",
        "100 in 24 h from 1 batch",
        "1 rejected in 24 h",
    ):
        assert words in text, words


def test_the_number_of_queries_does_not_grow_with_the_fleet(admin_client: Client) -> None:
    variant = make_release()
    fill_server(variant)
    _, few = open_overview(admin_client)
    for number in range(2, 6):
        fill_server(make_release(version=f"{number}.0.0"))
    _, many = open_overview(admin_client)
    assert many == few <= MOST_QUERIES


def test_rollouts_are_listed_at_no_further_query_each(admin_client: Client) -> None:
    model = make_model()
    versions = [make_version(model) for _ in range(3)]
    first = make_deployment(stable_version=versions[0])
    rollout = make_rollout(deployment=first, target_version=versions[1])
    text, few = open_overview(admin_client)
    assert str(versions[1]) in text
    assert reverse("admin:fleet_rollout_change", args=[rollout.pk]) in text
    second = make_deployment(stable_version=versions[0], selector={"site": ["lyon"]})
    make_rollout(deployment=second, target_version=versions[2])
    text, many = open_overview(admin_client)
    assert str(versions[2]) in text
    assert many == few <= MOST_QUERIES


def test_a_device_that_was_silent_for_long_is_not_fresh(admin_client: Client) -> None:
    now = timezone.now()
    make_device("fresh", last_seen_at=now)
    make_device("silent", last_seen_at=now - overview.FRESH - timedelta(seconds=1))
    text, _ = open_overview(admin_client)
    assert "50.0 % seen in the last 10 minutes" in text


def test_shares_name_what_runs_and_what_nobody_knows() -> None:
    variant = make_release()
    for number in range(3):
        make_device(f"a{number}", running={"digits-cnn": variant.manifest_sha256})
    make_device("b", running={"digits-cnn": "f" * 64})
    make_device("c")
    make_device("d", status=Device.Status.PENDING, running={"digits-cnn": "e" * 64})
    shares = {row["name"]: (row["count"], row["percent"]) for row in overview.running_shares()}
    assert shares == {
        "digits-cnn 1.0.0 · fp32": (3, 60.0),
        "unknown ffffffffffff": (1, 20.0),
        "nothing yet": (1, 20.0),
    }


def test_a_muted_or_resolved_incident_asks_for_nobody(admin_client: Client) -> None:
    fill_server(make_release())
    Incident.objects.update(status=Incident.Status.RESOLVED)
    text, _ = open_overview(admin_client)
    assert "No open incident" in text and "critical: prediction_psi" not in text


def test_a_visitor_is_sent_to_the_login(client: Client) -> None:
    response = client.get(reverse("admin:index"))
    assert response.status_code == 302
    assert reverse("admin:login") in response["Location"]
