"""Anchors of the audit chain: a chain that was rewritten or cut whole is found from outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection

from registry.models import AuditEvent, AuditHead
from registry.services.audit import GENESIS, event_digest, record_event, verify_chain
from registry.services.audit_anchors import FOLDER, anchor_chain, anchor_names
from registry.tasks import anchor_audit

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_anchors() -> Iterator[None]:
    for name in anchor_names():
        default_storage.delete(f"{FOLDER}/{name}")
    yield
    for name in anchor_names():
        default_storage.delete(f"{FOLDER}/{name}")


def record(count: int, actor: str = "ada") -> None:
    for number in range(count):
        record_event(actor=actor, action="thing.done", obj=None, summary=f"number {number}")


def verify() -> str:
    out = StringIO()
    call_command("verify_audit", stdout=out)
    return out.getvalue()


def as_owner_of_the_database() -> None:
    """What stands in the way of somebody with SQL, and does not in the way of the owner."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("DROP TRIGGER registry_auditevent_no_update")
        else:
            cursor.execute("DROP TRIGGER registry_auditevent_no_change ON registry_auditevent")


def rewrite(change: Callable[[list[AuditEvent]], list[AuditEvent]]) -> None:
    """Another past with right digests from its first event to its head."""
    as_owner_of_the_database()
    events = list(AuditEvent.objects.order_by("pk"))
    keys = [event.pk for event in events]
    events = change(events)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM registry_auditevent")
    previous = GENESIS
    for key, event in zip(keys, events, strict=False):
        event.pk = key
        event.previous_digest = previous
        event.digest = previous = event_digest(event)
        event.save(force_insert=True)
    AuditHead.objects.filter(pk=1).update(digest=previous, count=len(events))
    verify_chain()  # by itself it is whole


def blame_another(events: list[AuditEvent]) -> list[AuditEvent]:
    events[1].actor = "eve"
    return events


REWRITES: dict[str, Callable[[list[AuditEvent]], list[AuditEvent]]] = {
    "one event changed": blame_another,
    "one event left out": lambda events: [events[0], *events[2:]],
    "the end cut off": lambda events: events[:-2],
    "all of it gone": lambda events: [],
    "the first put last": lambda events: [*events[1:], events[0]],
}


@pytest.mark.parametrize("case", REWRITES)
def test_a_past_that_was_rewritten_whole_is_found(case: str) -> None:
    record(5)
    assert anchor_chain(now=NOW)
    record(1)
    assert "6 events, 1 anchors" in verify()
    rewrite(REWRITES[case])
    with pytest.raises(CommandError, match=r"rewritten|was cut"):
        verify()


def test_a_cut_that_another_event_hides_is_found() -> None:
    record(4)
    anchor_chain(now=NOW)
    rewrite(lambda events: events[:-1])
    record(3, actor="eve")
    anchor_chain(now=NOW + timedelta(hours=1))
    with pytest.raises(CommandError, match="rewritten"):
        verify()


def test_an_anchor_is_written_once_for_each_end() -> None:
    assert anchor_audit() is None
    record(2)
    first = anchor_audit()
    assert first is not None and anchor_audit() is None
    record(1)
    second = anchor_audit()
    assert anchor_names() == [first, second]
    assert "3 events, 2 anchors" in verify()


def change_anchor(name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = f"{FOLDER}/{name}"
    with default_storage.open(path) as file:
        envelope = json.loads(file.read())
    default_storage.delete(path)
    default_storage.save(path, ContentFile(json.dumps(change(envelope)).encode()))


@pytest.mark.parametrize(
    "change",
    [
        lambda envelope: {**envelope, "signatures": []},
        lambda envelope: {**envelope, "payload": "e30="},
        lambda envelope: {**envelope, "payloadType": "application/json"},
        lambda envelope: [],
        lambda envelope: "x",
    ],
)
def test_an_anchor_that_nobody_signed_is_not_believed(change: Any) -> None:
    record(1)
    name = anchor_chain(now=NOW)
    assert name
    change_anchor(name, change)
    with pytest.raises(CommandError, match="cannot be believed"):
        verify()


def test_an_anchor_that_was_taken_away_is_missed() -> None:
    names = []
    for hour in range(3):
        record(1)
        names.append(anchor_chain(now=NOW + timedelta(hours=hour)))
    default_storage.delete(f"{FOLDER}/{names[1]}")
    with pytest.raises(CommandError, match=f"{names[1]} is missing"):
        verify()


def test_one_anchor_in_anothers_place_is_found() -> None:
    record(1)
    first = anchor_chain(now=NOW)
    record(1)
    second = anchor_chain(now=NOW + timedelta(hours=1))
    with default_storage.open(f"{FOLDER}/{first}") as file:
        body = file.read()
    default_storage.delete(f"{FOLDER}/{second}")
    default_storage.save(f"{FOLDER}/{second}", ContentFile(body))
    with pytest.raises(CommandError, match="another end than its name"):
        verify()


def test_a_restored_backup_is_said_and_then_whole_again() -> None:
    record(3)
    anchor_chain(now=NOW)
    record(2)
    anchor_chain(now=NOW + timedelta(hours=1))
    rewrite(lambda events: events[:4])
    with pytest.raises(CommandError, match="was cut"):
        verify()
    anchor_chain(now=NOW + timedelta(hours=2), restored="the backup of Tuesday")
    record(4)
    anchor_chain(now=NOW + timedelta(hours=3))
    said = verify()
    assert "8 events" in said and "restored to 4 events: the backup of Tuesday" in said
