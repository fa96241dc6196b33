"""Sends what waits for a channel; whoever is interrupted, another goes on from the same row."""

from __future__ import annotations

import logging
import random
import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet

from notifications.exceptions import NotificationError
from notifications.models import Channel, Delivery
from notifications.rules.backoff import MOST_ATTEMPTS, probe_seconds, retry_seconds
from notifications.senders.message import Message, Outcome
from notifications.senders.send import TIMEOUT_SECONDS, send

logger = logging.getLogger(__name__)

SENT_AT_ONCE = 10
#: Longer than all sendings of one claim: what a killed worker held is free again after it.
CLAIM_SECONDS = SENT_AT_ONCE * TIMEOUT_SECONDS + 60


def channels_to_serve(*, now: datetime) -> list[int]:
    """Keys of channels with something due that nobody is sending."""
    return list(
        _free(now)
        .filter(deliveries__state=Delivery.State.WAITING, deliveries__next_attempt_at__lte=now)
        .distinct()
        .order_by("pk")
        .values_list("pk", flat=True)
    )


def deliver_waiting(*, channel_id: int, now: datetime) -> int:
    """How many messages of a channel were attempted, at most ten, oldest first.

    One worker serves a channel at a time, so a slow receiver holds one worker and no other
    channel. A message is attempted before that is recorded: a worker killed between the two has
    its message sent again with the same id, which is what "at least once" means.
    """
    claim = uuid.uuid4()
    claimed = (
        _free(now)
        .filter(pk=channel_id)
        .update(claim=claim, claimed_until=now + timedelta(seconds=CLAIM_SECONDS))
    )
    if claimed != 1:
        return 0
    tried = 0
    try:
        channel = Channel.objects.get(pk=channel_id)
        due = Delivery.objects.filter(
            channel=channel, state=Delivery.State.WAITING, next_attempt_at__lte=now
        )
        for delivery in due.select_related("event").order_by("pk")[:SENT_AT_ONCE]:
            outcome = attempt(channel, delivery, now)
            tried += 1
            record_outcome(delivery_id=delivery.pk, outcome=outcome, now=now)
            if outcome.is_down or outcome.is_gone:
                break
    finally:
        Channel.objects.filter(pk=channel_id, claim=claim).update(claim=None, claimed_until=None)
    return tried


def attempt(channel: Channel, delivery: Delivery, now: datetime) -> Outcome:
    """One sending of one delivery."""
    event = delivery.event
    link = f"{settings.AVIARY_PUBLIC_URL}{event.path}" if settings.AVIARY_PUBLIC_URL else ""
    message = Message(
        uid=f"msg_{delivery.uid.hex}",
        kind=event.kind,
        level=event.level,
        summary=event.summary,
        at=event.at,
        actor=event.actor,
        model=event.model_slug,
        device=event.device_id,
        cause=event.cause,
        is_over=event.is_over,
        link=link if event.path else "",
        details=event.details,
    )
    try:
        return send(channel, message, now)
    except NotificationError as error:
        # The secrets cannot be opened: a person has to act, and the others wait too.
        return Outcome(False, problem=error.message, is_down=True)


@transaction.atomic
def record_outcome(*, delivery_id: int, outcome: Outcome, now: datetime) -> Delivery:
    """The delivery after an attempt, and what it says of its channel."""
    delivery = Delivery.objects.select_for_update(of=("self",)).get(pk=delivery_id)
    channel = Channel.objects.select_for_update(of=("self",)).get(pk=delivery.channel_id)
    delivery.note_attempt(at=now, status=outcome.status, problem=outcome.problem)
    draw = random.random()
    if outcome.is_delivered:
        delivery.state, delivery.finished_at = Delivery.State.DELIVERED, now
        channel.failures, channel.retry_at, channel.problem = 0, None, ""
        channel.delivered_at = now
    else:
        channel.failures += 1
        channel.problem = outcome.problem[:500]
        if delivery.attempts >= MOST_ATTEMPTS or outcome.is_gone:
            delivery.state, delivery.finished_at = Delivery.State.FAILED, now
        else:
            wait = retry_seconds(delivery.attempts, draw, asked=outcome.retry_after)
            delivery.next_attempt_at = now + timedelta(seconds=wait)
        if outcome.is_down:
            wait = max(probe_seconds(channel.failures, draw), outcome.retry_after or 0.0)
            channel.retry_at = now + timedelta(seconds=wait)
        if outcome.is_gone:
            channel.is_enabled = False
        logger.warning(
            "delivery %s to channel %s failed: %s", delivery.pk, channel.pk, outcome.problem
        )
    delivery.save()
    channel.save(update_fields=["failures", "retry_at", "problem", "delivered_at", "is_enabled"])
    return delivery


def _free(now: datetime) -> QuerySet[Channel]:
    return Channel.objects.filter(
        Q(retry_at__isnull=True) | Q(retry_at__lte=now),
        Q(claimed_until__isnull=True) | Q(claimed_until__lte=now),
        is_enabled=True,
    ).order_by(F("pk"))
