"""What happened, as values that apps publish and others listen to.

An event is published in the transaction that decided it, so whatever a listener writes is
committed with the decision or not at all. Most events are audit events told in other words: an app
registers for each of its tables what an audit event of it means to the world outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import models

from registry.models import AuditEvent


class Level(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: `<thing>.<what>`, such as `rollout.completed`; one that an app has declared.
        summary: one sentence.
        actor: a user name, `device:<id>`, or `system`.
        model: slug of the model it concerns; empty for none.
        device: id of the device it concerns; empty for none.
        cause: names trouble that lasts, the same for all that is told of it; empty where each
            event stands for itself.
        is_over: whether the trouble of `cause` has ended.
        path: the page that shows it, from the root of the server.
        details: JSON values; no secrets.
    """

    kind: str
    summary: str
    at: datetime
    level: Level = Level.INFO
    actor: str = "system"
    model: str = ""
    device: str = ""
    cause: str = ""
    is_over: bool = False
    path: str = ""
    details: dict[str, Any] = field(default_factory=dict)


#: From an audit event and the row it is about to what is published; None for what is not.
Teller = Callable[[AuditEvent, Any], Event | None]
Listener = Callable[[list[Event]], None]

_KINDS: dict[str, str] = {}
_TELLERS: dict[str, Teller] = {}
_LISTENERS: list[Listener] = []


def declare_kinds(kinds: dict[str, str]) -> None:
    """Makes kinds known, each with a sentence on when it is published."""
    _KINDS.update(kinds)


def known_kinds() -> dict[str, str]:
    """Every declared kind and when it is published, by name."""
    return dict(sorted(_KINDS.items()))


def tell_audits_of(object_type: str, tell: Teller) -> None:
    """Has `tell` asked about each audit event of a table, such as `fleet.rollout`."""
    _TELLERS[object_type] = tell


def listen(listener: Listener) -> None:
    """Has `listener` called with whatever is published, in the publisher's transaction."""
    _LISTENERS.append(listener)


def publish(events: Iterable[Event]) -> None:
    """Tells every listener. Raises ValueError on a kind that nobody declared."""
    found = list(events)
    for event in found:
        if event.kind not in _KINDS:
            raise ValueError(f"{event.kind!r} is no declared kind of event")
    if found:
        for listener in _LISTENERS:
            listener(found)


def publish_audit(audit: AuditEvent, obj: models.Model | None) -> None:
    """Publishes what the audit event means to the world outside, if anything."""
    tell = _TELLERS.get(audit.object_type)
    event = tell(audit, obj) if tell else None
    if event is not None:
        publish([event])
