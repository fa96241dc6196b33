"""A batch that cannot be counted waits alone, then for a person; no other waits for it."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ingest.columns import make_columns, pack_columns
from ingest.models import InboxBatch, RejectedRecord, Window
from ingest.records import Record, Release, fields_of
from ingest.services.aggregation import aggregate_batches
from ingest.services.intake import receive_batch
from registry.models import AuditEvent
from tests.factories.ingest import make_device, make_record, make_release

pytestmark = pytest.mark.django_db


@pytest.fixture
def variant():
    return make_release()


def deliver(device, batch_id, *records):
    body = json.dumps({"batch_id": batch_id, "records": records or [make_record()]})
    return receive_batch(device=device, body=body.encode(), encoding="", received_at=timezone.now())


def poison(device, variant, *, latency_ms=2.0, version_id=None, cohort="stable", at=None):
    """A batch as an older server could have stored it: not checked by the rules of today."""
    release = Release(
        "digits-cnn", "1.0.0", version_id or variant.version_id, variant.pk,
        variant.version.model_id, labels=10, features=2,
    )  # fmt: skip
    record = Record(
        timestamp=0.0, latency_ms=latency_ms, model_version="1.0.0", confidence=0.5, class_id=1
    )
    at = at or timezone.now().timestamp()
    columns = make_columns(fields_of([record]), [release.key], [0], [at], [0])
    return InboxBatch.objects.create(
        device=device,
        batch_id=f"poison-{InboxBatch.objects.count()}",
        received_at=timezone.now(),
        payload=pack_columns(columns, {release.model_id: cohort}),
        accepted=1,
    )


#: What only the saving finds, each for another reason.
POISONS = {
    "a sum of squares that is infinite": {"latency_ms": 1e200},
    "a cohort longer than its column": {"cohort": "x" * 9},
    "a time that no calendar has": {"at": 1e17},
    "not a number": {"latency_ms": float("nan")},
}


@pytest.mark.parametrize("name", POISONS)
def test_a_poison_batch_stops_no_other_and_is_set_aside(name, variant):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite takes some of these; PostgreSQL runs this.")
    bad, good = make_device("bad", variant), make_device("good", variant)
    batch, now = poison(bad, variant, **POISONS[name]), timezone.now()
    for round_ in range(InboxBatch.MAX_ATTEMPTS + 1):
        deliver(good, f"b{round_}")
        aggregate_batches(now=now + timedelta(hours=round_))
        assert Window.objects.get(device=good).n == round_ + 1
    batch.refresh_from_db()
    assert (batch.state, batch.attempts) == (InboxBatch.State.FAILED, InboxBatch.MAX_ATTEMPTS)
    assert "Error" in batch.problem
    assert not Window.objects.filter(device=bad).exists()


def test_a_batch_that_failed_waits_longer_each_time(variant):
    batch = poison(make_device("bad", variant), variant, at=1e17)
    now, waits = timezone.now(), []
    while batch.state == InboxBatch.State.PENDING and len(waits) < 10:
        assert aggregate_batches(now=now) == 1
        assert aggregate_batches(now=now) == 0
        batch.refresh_from_db()
        if batch.retry_at:
            waits.append((batch.retry_at - now).total_seconds())
            now = batch.retry_at
    assert waits == [10, 20, 40, 80]


def test_a_person_sees_it_and_has_it_counted_again(ada: Client, variant):
    device = make_device("bad", variant)
    deliver(device, "b1")
    InboxBatch.objects.update(state="failed", attempts=5, problem="DataError: out of range")
    page = ada.get(reverse("admin:ingest_inboxbatch_changelist")).content.decode()
    assert "DataError: out of range" in page and "Set aside" in page
    assert "1 batch of records could not be counted" in ada.get("/admin/").content.decode()
    row = InboxBatch.objects.get()
    ada.post(
        reverse("admin:ingest_inboxbatch_changelist"),
        {"action": "count_again", "_selected_action": [row.pk]},
    )
    assert AuditEvent.objects.filter(action="inbox_batch.retried").count() == 1
    aggregate_batches()
    row.refresh_from_db()
    assert (row.state, row.problem) == (InboxBatch.State.DONE, "")
    assert Window.objects.get().n == 1


def test_a_program_lists_and_retries_what_was_set_aside(api, reader, variant):
    device = make_device("bad", variant)
    deliver(device, "b1")
    deliver(device, "b2")
    InboxBatch.objects.filter(batch_id="b1").update(state="failed", attempts=5, problem="x")
    (row,) = api.get("/api/v1/inbox/?state=failed").json()["results"]
    assert (row["batch_id"], row["device"], row["problem"]) == ("b1", "bad", "x")
    assert reader.post(f"/api/v1/inbox/{row['id']}/retry/", {}, format="json").status_code == 403
    answer = api.post(f"/api/v1/inbox/{row['id']}/retry/", {"reason": "fixed"}, format="json")
    assert answer.json()["state"] == "pending"
    assert AuditEvent.objects.get(action="inbox_batch.retried").details["reason"] == "fixed"


def test_a_batch_with_many_bad_records_keeps_few_of_them(variant):
    bad = [make_record(latency_ms=-1, request_hash="x\0") for _ in range(300)]
    answer = deliver(make_device(variant=variant), "b1", make_record(), *bad)
    assert answer["accepted"] == 1 and len(answer["rejected"]) == 300
    assert RejectedRecord.objects.count() == 50
