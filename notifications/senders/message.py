"""What is sent, and how the sending went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Message:
    """An event as a channel tells it.

    Attributes:
        uid: the same at every attempt, so that a receiver knows a repetition.
        link: address of the page that shows it; empty where the server knows no own address.
    """

    uid: str
    kind: str
    level: str
    summary: str
    at: datetime
    actor: str
    model: str = ""
    device: str = ""
    cause: str = ""
    is_over: bool = False
    link: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Kind and level in words: `Rollout gate failed (warning)`."""
        words = self.kind.replace(".", " ").replace("_", " ").capitalize()
        return words if self.level == "info" else f"{words} ({self.level})"


@dataclass(frozen=True)
class Post:
    """One HTTP request to be made."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """How one attempt went.

    Attributes:
        status: of HTTP; None where there was no answer, or no HTTP.
        is_down: whether the receiver as a whole seems away, so that other messages wait too.
        is_gone: the receiver asked for no more messages, ever.
        retry_after: seconds that the receiver asked for.
    """

    is_delivered: bool
    status: int | None = None
    problem: str = ""
    is_down: bool = False
    is_gone: bool = False
    retry_after: float | None = None
