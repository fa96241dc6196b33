"""Who is to know of what happened: one delivery for each event and channel at most."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import F, Q

from notifications.models import Channel, Delivery, OutboxEvent, Rule
from notifications.rules.causes import Told, Verdict, judge_event
from notifications.rules.matching import Wanted, is_wanted
from notifications.rules.quiet_hours import QuietHours, quiet_until

ROUTED_AT_ONCE = 200
#: Deliveries that may wait for one channel; what comes beyond is counted and not kept.
MOST_WAITING = 1_000


@transaction.atomic
def route_waiting(*, now: datetime) -> tuple[int, set[int]]:
    """How many events were routed, oldest first, and the channels that got something.

    Events are routed one after another by whoever holds them, so that trouble and its end reach
    a channel in that order.
    """
    events = list(
        OutboxEvent.objects.select_for_update(of=("self",))
        .filter(routed_at__isnull=True)
        .order_by("pk")[:ROUTED_AT_ONCE]
    )
    if not events:
        return 0, set()
    rules = [
        (rule, _wanted(rule), _quiet(rule))
        for rule in Rule.objects.filter(is_enabled=True, channel__is_enabled=True)
        .select_related("channel")
        .prefetch_related("models")
        .order_by("pk")
    ]
    touched: set[int] = set()
    waiting = _count_waiting({rule.channel_id for rule, _, _ in rules})
    for event in events:
        for channel_id, due in _receivers(event, rules, now).items():
            if _give(event, channel_id, due, waiting, now):
                touched.add(channel_id)
    OutboxEvent.objects.filter(pk__in=[event.pk for event in events]).update(routed_at=now)
    return len(events), touched


def _receivers(
    event: OutboxEvent, rules: Sequence[tuple[Rule, Wanted, QuietHours | None]], now: datetime
) -> dict[int, datetime]:
    """Channel key to when it may be told: by the rule that lets it be told first."""
    found: dict[int, datetime] = {}
    for rule, wanted, quiet in rules:
        if not is_wanted(
            wanted, kind=event.kind, model=event.model_slug, level=event.level
        ) and not _ends_what_was_wanted(event, wanted):
            continue
        is_loud = event.level == "critical" and rule.is_critical_loud
        due = now if is_loud else quiet_until(quiet, now) or now
        found[rule.channel_id] = min(due, found.get(rule.channel_id, due))
    return found


def _ends_what_was_wanted(event: OutboxEvent, wanted: Wanted) -> bool:
    """Whether it ends trouble: who was told of it is told of its end, whatever the rule's kinds.

    Whether the channel was told at all is asked when the cause is judged.
    """
    return (
        event.is_over
        and bool(event.cause)
        and (not wanted.models or event.model_slug in wanted.models)
    )


def _give(
    event: OutboxEvent, channel_id: int, due: datetime, waiting: dict[int, int], now: datetime
) -> bool:
    last = None
    if event.cause:
        last = (
            Delivery.objects.filter(channel_id=channel_id, cause=event.cause)
            .select_related("event")
            .order_by("-pk")
            .first()
        )
    verdict = judge_event(
        cause=event.cause, level=event.level, is_over=event.is_over, last=_told(last, now)
    )
    if verdict is Verdict.SKIP:
        return False
    if verdict is Verdict.WITHDRAW:
        Delivery.objects.filter(
            channel_id=channel_id, cause=event.cause, state=Delivery.State.WAITING, attempts=0
        ).update(state=Delivery.State.WITHDRAWN, finished_at=event.at)
        return False
    if waiting.get(channel_id, 0) >= MOST_WAITING:
        Channel.objects.filter(pk=channel_id).update(dropped=F("dropped") + 1)
        return False
    Delivery.objects.create(
        event=event, channel_id=channel_id, cause=event.cause, next_attempt_at=due
    )
    waiting[channel_id] = waiting.get(channel_id, 0) + 1
    return True


def _told(last: Delivery | None, now: datetime) -> Told | None:
    if last is None or last.state == Delivery.State.WITHDRAWN:
        return None
    is_held = (
        last.state == Delivery.State.WAITING and not last.attempts and last.next_attempt_at > now
    )
    if is_held:
        # A worse one may be held behind one that was told in time.
        is_held = not (
            Delivery.objects.filter(channel_id=last.channel_id, cause=last.cause)
            .exclude(pk=last.pk)
            .exclude(state=Delivery.State.WITHDRAWN)
            .filter(event__is_over=False)
            .filter(Q(attempts__gt=0) | Q(next_attempt_at__lte=now))
            .exists()
        )
    return Told(level=last.event.level, is_over=last.event.is_over, is_held=is_held)


def _count_waiting(channel_ids: set[int]) -> dict[int, int]:
    return {
        channel_id: Delivery.objects.filter(
            channel_id=channel_id, state=Delivery.State.WAITING
        ).count()
        for channel_id in channel_ids
    }


def _wanted(rule: Rule) -> Wanted:
    return Wanted(
        kinds=tuple(rule.kinds),
        models=frozenset(model.slug for model in rule.models.all()),
        level=rule.level,
    )


def _quiet(rule: Rule) -> QuietHours | None:
    if rule.quiet_from is None or rule.quiet_until is None:
        return None
    return QuietHours(rule.quiet_from, rule.quiet_until, rule.time_zone)
