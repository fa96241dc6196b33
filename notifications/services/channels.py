"""Channels and rules, each change of them audited; secrets go in and never out again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from notifications.exceptions import DeliveryStateError, InvalidChannelError, InvalidRuleError
from notifications.models import Channel, Delivery, OutboxEvent, Rule
from notifications.rules.matching import find_unknown
from notifications.sealing import seal, unseal
from notifications.senders.email import MOST_RECIPIENTS
from notifications.senders.webhook import make_secret
from registry.events import known_kinds
from registry.exceptions import ConflictError
from registry.models import Model
from registry.outbound import AddressRefusedError, split_address
from registry.services.audit import record_event

MOST_CHANNELS = 100
MOST_RULES = 500
#: How long a replaced secret still signs beside the new one.
OVERLAP = timedelta(hours=24)
_SECRET_FIELDS = ("url", "key")
_RULE_FIELDS = (
    "name", "is_enabled", "kinds", "level", "quiet_from", "quiet_until", "time_zone",
    "is_critical_loud",
)  # fmt: skip
Kind = Channel.Kind


@transaction.atomic
def save_channel(
    *, actor: str, channel_id: int | None = None, **fields: Any
) -> tuple[Channel, str]:
    """The channel, and the secret of a webhook that was just made; empty otherwise.

    Args:
        channel_id: None makes one.
        fields: of the model, and `url` and `key`, which are kept encrypted; those that are left
            out stay as they are.

    Raises:
        InvalidChannelError: the fields do not make a channel of its kind.
        ConflictError: another has the name.
    """
    if channel_id is None:
        if Channel.objects.count() >= MOST_CHANNELS:
            raise InvalidChannelError(f"There are {MOST_CHANNELS} channels; no more are kept")
        channel = Channel()
    else:
        channel = Channel.objects.select_for_update(of=("self",)).get(pk=channel_id)
        if fields.get("kind", channel.kind) != channel.kind:
            raise InvalidChannelError("The kind of a channel does not change; make another one")
    secrets = unseal(channel.sealed)
    given = {name: fields.pop(name) for name in _SECRET_FIELDS if fields.get(name)}
    for name in _SECRET_FIELDS:
        fields.pop(name, None)
    for name, value in fields.items():
        setattr(channel, name, value)
    secrets |= given
    shown = ""
    if channel.kind == Kind.WEBHOOK and "key" not in secrets:
        shown = secrets["key"] = make_secret()
    check_channel(channel, secrets)
    channel.sealed = seal(secrets) if secrets else ""
    channel.hint = _hint(channel, secrets)
    if given or fields.get("is_enabled"):
        # Whoever mends a channel wants to see at once whether it works.
        channel.failures, channel.retry_at = 0, None
    verb = "changed" if channel.pk else "made"
    try:
        with transaction.atomic():
            channel.save()
    except IntegrityError as error:
        raise ConflictError(f"There is a channel {channel.name!r} already") from error
    record_event(
        actor=actor,
        action=f"channel.{verb}",
        obj=channel,
        summary=f"Channel {channel.name} ({channel.kind}, {channel.hint}) was {verb}",
        details={"fields": sorted([*fields, *given])},
    )
    return channel, shown


def check_channel(channel: Channel, secrets: Mapping[str, Any]) -> None:
    """Nothing when the fields fit the kind. Raises InvalidChannelError in words."""
    if channel.kind == Kind.EMAIL:
        if secrets:
            raise InvalidChannelError("An e-mail channel has recipients, and no address or key")
        if not isinstance(channel.recipients, list) or len(channel.recipients) > MOST_RECIPIENTS:
            raise InvalidChannelError(f"recipients is a list of at most {MOST_RECIPIENTS}")
        if not channel.recipients and channel.group_id is None:
            raise InvalidChannelError("An e-mail channel needs recipients or a group")
        for address in channel.recipients:
            try:
                validate_email(address)
            except (ValidationError, TypeError) as error:
                raise InvalidChannelError(f"{address!r} is no e-mail address") from error
        return
    if channel.recipients or channel.group_id is not None:
        raise InvalidChannelError("Only an e-mail channel has recipients or a group")
    if channel.kind == Kind.PAGERDUTY and not secrets.get("key"):
        raise InvalidChannelError("A PagerDuty channel needs key, its integration's routing key")
    if channel.kind in (Kind.SLACK, Kind.TEAMS) and "key" in secrets:
        raise InvalidChannelError("A channel of this kind has an address and no key")
    if channel.kind != Kind.PAGERDUTY and not secrets.get("url"):
        raise InvalidChannelError(f"A channel of kind {channel.kind} needs url, its address")
    if secrets.get("url"):
        try:
            split_address(str(secrets["url"]))
        except AddressRefusedError as error:
            raise InvalidChannelError(str(error)) from error


@transaction.atomic
def delete_channel(*, channel_id: int, actor: str) -> None:
    """Takes the channel away, with its rules and what waits for it."""
    channel = Channel.objects.get(pk=channel_id)
    record_event(
        actor=actor,
        action="channel.deleted",
        obj=channel,
        summary=f"Channel {channel.name} ({channel.kind}, {channel.hint}) was deleted",
    )
    channel.delete()


@transaction.atomic
def rotate_secret(*, channel_id: int, actor: str, now: datetime) -> tuple[Channel, str]:
    """The webhook's new secret, shown this once; the old one signs too for 24 hours."""
    channel = Channel.objects.select_for_update(of=("self",)).get(pk=channel_id)
    if channel.kind != Kind.WEBHOOK:
        raise InvalidChannelError(f"Only a webhook has a secret of its own; this is {channel.kind}")
    secrets = unseal(channel.sealed)
    secret = make_secret()
    secrets |= {
        "key": secret,
        "old_key": secrets["key"],
        "old_key_until": (now + OVERLAP).timestamp(),
    }
    channel.sealed = seal(secrets)
    channel.save(update_fields=["sealed"])
    record_event(
        actor=actor,
        action="channel.secret_replaced",
        obj=channel,
        summary=f"The secret of channel {channel.name} was replaced",
    )
    return channel, secret


@transaction.atomic
def send_test(*, channel_id: int, actor: str, now: datetime) -> Delivery:
    """A delivery that tells the channel that it works; the caller has it sent."""
    channel = Channel.objects.get(pk=channel_id)
    if not channel.is_enabled:
        raise InvalidChannelError(f"{channel.name} is switched off; switch it on first")
    Channel.objects.filter(pk=channel_id).update(failures=0, retry_at=None)
    event = OutboxEvent.objects.create(
        kind="channel.test",
        summary=f"{actor} tests channel {channel.name}.",
        actor=actor,
        path=channel.get_absolute_url(),
        at=now,
        routed_at=now,
    )
    record_event(
        actor=actor,
        action="channel.tested",
        obj=channel,
        summary=f"A test was sent to channel {channel.name}",
    )
    return Delivery.objects.create(event=event, channel=channel, next_attempt_at=now)


@transaction.atomic
def redeliver(*, delivery_id: int, actor: str, now: datetime) -> Delivery:
    """The delivery waiting again with the same id; the caller has it sent.

    Raises:
        DeliveryStateError: it waits already, or its channel is switched off.
    """
    delivery = (
        Delivery.objects.select_for_update(of=("self",))
        .select_related("channel", "event")
        .get(pk=delivery_id)
    )
    if delivery.state == Delivery.State.WAITING:
        raise DeliveryStateError("The delivery waits for its next attempt already")
    if not delivery.channel.is_enabled:
        raise DeliveryStateError(f"{delivery.channel} is switched off; switch it on first")
    delivery.state = Delivery.State.WAITING
    delivery.attempts, delivery.finished_at, delivery.next_attempt_at = 0, None, now
    delivery.save()
    Channel.objects.filter(pk=delivery.channel_id).update(failures=0, retry_at=None)
    record_event(
        actor=actor,
        action="delivery.repeated",
        obj=delivery,
        summary=f"{delivery} is sent again",
    )
    return delivery


@transaction.atomic
def save_rule(
    *,
    actor: str,
    rule_id: int | None = None,
    models: Iterable[Model] | None = None,
    **fields: Any,
) -> Rule:
    """The rule, made where `rule_id` is None.

    Args:
        models: replaces those that are there; None leaves them.

    Raises:
        InvalidRuleError: a kind that is never published, half of the quiet hours, no such zone.
        ConflictError: another has the name.
    """
    if rule_id is None:
        if Rule.objects.count() >= MOST_RULES:
            raise InvalidRuleError(f"There are {MOST_RULES} rules; no more are kept")
        rule = Rule()
    else:
        rule = Rule.objects.select_for_update(of=("self",)).get(pk=rule_id)
    for name, value in fields.items():
        setattr(rule, name, value)
    check_rule(rule)
    verb = "changed" if rule.pk else "made"
    try:
        with transaction.atomic():
            rule.save()
    except IntegrityError as error:
        raise ConflictError(f"There is a rule {rule.name!r} already") from error
    if models is not None:
        rule.models.set(models)
    values = {name: getattr(rule, name) for name in _RULE_FIELDS}
    record_event(
        actor=actor,
        action=f"notification_rule.{verb}",
        obj=rule,
        summary=f"Rule {rule.name} of channel {rule.channel.name} was {verb}",
        details={**values, "models": sorted(rule.models.values_list("slug", flat=True))},
    )
    return rule


def check_rule(rule: Rule) -> None:
    """Nothing when the rule makes sense. Raises InvalidRuleError in words."""
    kinds = rule.kinds
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise InvalidRuleError("kinds is a list of texts")
    if unknown := find_unknown(kinds, known_kinds()):
        raise InvalidRuleError(
            f"No event is of kind {unknown[0][:64]!r}; there are {', '.join(known_kinds())}"
        )
    if (rule.quiet_from is None) != (rule.quiet_until is None):
        raise InvalidRuleError("Quiet hours need both their beginning and their end")
    try:
        rule.clean_fields(exclude=["channel"])
    except ValidationError as error:
        raise InvalidRuleError("The rule has invalid fields", error.message_dict) from error


@transaction.atomic
def delete_rule(*, rule_id: int, actor: str) -> None:
    """Takes the rule away; what waits already is still delivered."""
    rule = Rule.objects.select_related("channel").get(pk=rule_id)
    record_event(
        actor=actor,
        action="notification_rule.deleted",
        obj=rule,
        summary=f"Rule {rule.name} of channel {rule.channel.name} was deleted",
    )
    rule.delete()


def _hint(channel: Channel, secrets: Mapping[str, Any]) -> str:
    """Where it goes: the host and not the path, which is a secret with most receivers."""
    if channel.kind == Kind.EMAIL:
        names = [str(address) for address in channel.recipients]
        if channel.group is not None:
            names.append(f"group {channel.group.name}")
        return ", ".join(names)[:200]
    if secrets.get("url"):
        parts = split_address(str(secrets["url"]))
        return f"{parts.scheme}://{parts.netloc}/…"[:200]
    return "PagerDuty"
