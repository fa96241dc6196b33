"""One attempt at one message, whatever the kind of channel."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model

from notifications.models import Channel
from notifications.sealing import unseal
from notifications.senders import email, pagerduty, slack, teams, webhook
from notifications.senders.message import Message, Outcome, Post
from registry.outbound import OutboundError, post

TIMEOUT_SECONDS = 10.0
#: Answers after which other messages wait too: the receiver asks for less, or is away.
_DOWN = frozenset({408, 425, 429})


def send(channel: Channel, message: Message, now: datetime) -> Outcome:
    """How the attempt went; raises nothing that a receiver can bring about."""
    if channel.kind == Channel.Kind.EMAIL:
        return email.send(message, recipients_of(channel))
    request = _prepare(channel, message, now)
    try:
        answer = post(
            request.url,
            request.body,
            request.headers,
            timeout_seconds=TIMEOUT_SECONDS,
            is_private_allowed=settings.AVIARY_ALLOWED_WEBHOOK_PRIVATE,
        )
    except OutboundError as error:
        return Outcome(False, problem=str(error), is_down=True)
    if 200 <= answer.status < 300:
        return Outcome(True, status=answer.status)
    words = answer.body[:200].decode(errors="replace").strip()
    problem = f"Answered {answer.status}" + (f": {words}" if words else "")
    return Outcome(
        False,
        status=answer.status,
        problem=problem,
        is_down=answer.status >= 500 or answer.status in _DOWN,
        is_gone=answer.status == 410,
        retry_after=_seconds(answer.headers.get("retry-after", "")),
    )


def recipients_of(channel: Channel) -> list[str]:
    """The addresses of an e-mail channel: those listed, and the active members of its group."""
    found = dict.fromkeys(str(address) for address in channel.recipients)
    if channel.group_id is not None:
        members = get_user_model().objects.filter(groups=channel.group_id, is_active=True)
        found |= dict.fromkeys(
            members.exclude(email="").order_by("pk").values_list("email", flat=True)
        )
    return list(found)[: email.MOST_RECIPIENTS]


def _prepare(channel: Channel, message: Message, now: datetime) -> Post:
    secrets: dict[str, Any] = unseal(channel.sealed)
    url = str(secrets.get("url", ""))
    if channel.kind == Channel.Kind.SLACK:
        return slack.prepare(message, url)
    if channel.kind == Channel.Kind.TEAMS:
        return teams.prepare(message, url)
    if channel.kind == Channel.Kind.PAGERDUTY:
        return pagerduty.prepare(message, url or pagerduty.DEFAULT_URL, str(secrets["key"]))
    keys = [str(secrets["key"])]
    if secrets.get("old_key") and now.timestamp() < float(secrets.get("old_key_until", 0)):
        keys.append(str(secrets["old_key"]))
    return webhook.prepare(message, url, keys, now)


def _seconds(text: str) -> float | None:
    """`Retry-After` in seconds; its form with a date is rare and left out."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
