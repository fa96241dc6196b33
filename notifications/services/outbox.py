"""What happened, kept in the transaction that decided it."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from notifications.models import OutboxEvent
from registry.events import Event, listen

#: However busy a month was, the oldest go first.
MOST_EVENTS = 200_000
#: Rows removed by one run of the sweep.
PRUNED_AT_ONCE = 5_000


def connect() -> None:
    """Has every published event kept; once, when the app is ready."""
    listen(keep_events)


def keep_events(events: list[Event]) -> None:
    """Writes the events; the next tick routes them, so a publisher waits for no broker."""
    OutboxEvent.objects.bulk_create(
        OutboxEvent(
            kind=event.kind,
            level=str(event.level),
            summary=event.summary[:4000],
            actor=event.actor[:150],
            model_slug=event.model[:100],
            device_id=event.device[:200],
            cause=event.cause[:300],
            is_over=event.is_over,
            path=event.path[:300],
            details=event.details,
            at=event.at,
        )
        for event in events
    )


def prune_events() -> int:
    """Removes routed events that are past their days or too many, with their deliveries."""
    limit = timezone.now() - timedelta(days=settings.AVIARY_NOTIFICATION_DAYS)
    routed = OutboxEvent.objects.filter(routed_at__isnull=False)
    surplus = routed.order_by("-pk").values_list("pk", flat=True)[MOST_EVENTS:]
    first_kept = next(iter(surplus[:1]), 0)
    old = routed.filter(Q(at__lt=limit) | Q(pk__lte=first_kept)).order_by("pk")
    keys = list(old.values_list("pk", flat=True)[:PRUNED_AT_ONCE])
    OutboxEvent.objects.filter(pk__in=keys).delete()
    return len(keys)
