"""The audit chain: every change of the past is found."""

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from registry.exceptions import AuditChainError
from registry.models import AuditEvent, AuditHead
from registry.services.audit import record_event, verify_chain

pytestmark = pytest.mark.django_db


def record(number: int) -> AuditEvent:
    return record_event(
        actor="ada",
        action="thing.done",
        obj=None,
        summary=f"number {number}",
        details={"n": number, "big": 1e16, "small": 1e-7, "nan": float("nan"), "list": (1, 2.0)},
    )


def drop_triggers() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("DROP TRIGGER registry_auditevent_no_update")
        else:
            cursor.execute("DROP TRIGGER registry_auditevent_no_change ON registry_auditevent")


def test_an_untouched_chain_is_whole() -> None:
    before = verify_chain()
    for number in range(5):
        record(number)
    assert verify_chain() == before + 5
    call_command("verify_audit")


def test_the_database_refuses_to_change_an_event() -> None:
    event = record(1)
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE registry_auditevent SET actor = 'eve' WHERE id = %s", [event.pk])
    with pytest.raises(TypeError):
        AuditEvent.objects.filter(pk=event.pk).update(actor="eve")
    with pytest.raises(TypeError):
        AuditEvent.objects.all().delete()


TAMPERINGS = {
    "a field changed": "UPDATE registry_auditevent SET actor = 'eve' WHERE id = %(middle)s",
    "details changed": "UPDATE registry_auditevent SET details = '{}' WHERE id = %(middle)s",
    "one removed": "DELETE FROM registry_auditevent WHERE id = %(middle)s",
    "the last removed": "DELETE FROM registry_auditevent WHERE id = %(last)s",
}


@pytest.mark.parametrize("case", TAMPERINGS)
def test_tampering_is_found(case: str) -> None:
    events = [record(number) for number in range(3)]
    drop_triggers()
    with connection.cursor() as cursor:
        cursor.execute(TAMPERINGS[case], {"middle": events[1].pk, "last": events[2].pk})
    with pytest.raises(AuditChainError):
        verify_chain()
    with pytest.raises(CommandError):
        call_command("verify_audit")


def test_an_event_is_undone_with_the_act_it_describes() -> None:
    record(1)
    count = AuditHead.objects.get().count
    with pytest.raises(RuntimeError), transaction.atomic():
        record(2)
        raise RuntimeError
    assert AuditHead.objects.get().count == count
    verify_chain()
