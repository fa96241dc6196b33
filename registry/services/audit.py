"""The audit chain: appended to under a lock, and walked to see that it is whole."""

import hashlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from registry.events import publish_audit
from registry.exceptions import AuditChainError
from registry.manifest import canonical_bytes
from registry.models import AuditEvent, AuditHead

logger = logging.getLogger(__name__)

GENESIS = "0" * 64


@transaction.atomic
def record_event(
    *,
    actor: str,
    action: str,
    obj: models.Model | None,
    summary: str,
    details: dict[str, Any] | None = None,
) -> AuditEvent:
    """The event, chained to the one before; it lives or dies with the caller's transaction.

    Args:
        actor: a user name, or `system` for what no person asked for.
        action: `<thing>.<verb>`, such as `version.approved`.
        obj: what it is about; None for the server as a whole.
        details: JSON values; no secrets and no signed addresses.
    """
    head = _lock_head()
    event = AuditEvent(
        at=timezone.now(),
        actor=actor,
        action=action,
        object_type="" if obj is None else obj._meta.label_lower,
        object_id="" if obj is None else str(obj.pk),
        summary=summary,
        details=_plain(details or {}),
        previous_digest=head.digest,
    )
    event.digest = event_digest(event)
    event.save(force_insert=True)
    head.digest = event.digest
    head.count += 1
    head.save(update_fields=["digest", "count"])
    publish_audit(event, obj)
    logger.info("%s by %s: %s", action, actor, summary)
    return event


def verify_chain(ends: Mapping[int, str] | None = None) -> int:
    """The number of events, after every link and the end of the chain have been checked.

    Args:
        ends: number of events to the digest of the last of them, as anchors outside say.

    Raises:
        AuditChainError: an event was changed, removed, or put in between; or the chain is whole and
            not the one that was anchored.
    """
    previous = GENESIS
    count = 0
    expected_ends = dict(ends or {})
    for event in AuditEvent.objects.order_by("pk").iterator(chunk_size=1000):
        count += 1
        if event.previous_digest != previous:
            raise AuditChainError(
                f"Event {event.pk} does not follow the event before it: expected {previous}, "
                f"got {event.previous_digest}",
                {"event": event.pk},
            )
        if event.digest != event_digest(event):
            raise AuditChainError(f"Event {event.pk} has been changed", {"event": event.pk})
        previous = event.digest
        if expected_ends.pop(count, previous) != previous:
            raise AuditChainError(
                f"The chain was rewritten: event {event.pk} is not the one that was anchored",
                {"event": event.pk, "count": count},
            )
    if expected_ends:
        raise AuditChainError(
            f"The chain was cut: {max(expected_ends)} events were anchored, {count} are there",
            {"found": count, "anchored": max(expected_ends)},
        )
    head = AuditHead.objects.filter(pk=1).first()
    expected = (head.digest, head.count) if head else (GENESIS, 0)
    if expected != (previous, count):
        raise AuditChainError(
            f"The chain ends after {count} events; {expected[1]} were recorded",
            {"found": count, "recorded": expected[1]},
        )
    return count


def event_digest(event: AuditEvent) -> str:
    """SHA-256 over every field of the event and the digest of the one before."""
    at: datetime = event.at
    return hashlib.sha256(
        canonical_bytes(
            {
                "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
                "actor": event.actor,
                "action": event.action,
                "object_type": event.object_type,
                "object_id": event.object_id,
                "summary": event.summary,
                "details": _plain(event.details),
                "previous_digest": event.previous_digest,
            }
        )
    ).hexdigest()


def _lock_head() -> AuditHead:
    try:
        with transaction.atomic():
            AuditHead.objects.get_or_create(pk=1, defaults={"digest": GENESIS, "count": 0})
    except IntegrityError:
        pass
    return AuditHead.objects.select_for_update().get(pk=1)


def _plain(value: Any) -> Any:
    """JSON that reads back the same from every database: jsonb turns 1e16 into an integer."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        return int(value) if value.is_integer() else value
    return str(value)
