"""The unchanged answers that one web process remembers, each good until what it rests on changes.

A poll that repeats another one, header by header, is answered from here without any call. Changes
of devices and plans arrive as messages (`fleet.polling.changes`). An answer keeps the number of the
last message before its decision was read; a later message about its device or its model ends
it. While messages may be missed, nothing is answered from here.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

#: Changed devices that are kept by name; beyond them every answer is forgotten.
MOST_CHANGED = 100_000
#: A change whose message was never sent, since its sender died, is noticed after this.
LONGEST_SECONDS = 3600.0


class Remembered(NamedTuple):
    """An unchanged answer."""

    until: float
    """Wall clock, seconds: when the device's assignment is due to be renewed."""
    born: int
    device: int
    model: str
    running: str
    agent_version: str


def poll_key(authorization: str, query: str, etag: str, running: str, version: str) -> bytes:
    """What makes two polls the same, in 16 bytes: a token stays nowhere in memory."""
    text = "\0".join((authorization, query, etag, running, version))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class PollMemory:
    """Answers by `poll_key`; two generations, of which the older goes when the younger is full."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Remembers nothing yet, and answers nothing until `stay_live` is called.

        Args:
            most: answers at once, each about 300 bytes.
        """
        self._half = max(1, most // 2)
        self._clock = clock
        self._young: dict[bytes, Remembered] = {}
        self._old: dict[bytes, Remembered] = {}
        self._plans: dict[str, tuple[int, Any]] = {}
        self._changed: dict[str, int] = {}
        self._floor = 0
        self._live_until = 0.0
        self._lock = threading.Lock()
        #: The number of the last message; read before whatever a decision rests on.
        self.sequence = 0

    @property
    def is_live(self) -> bool:
        """True while every change is heard of."""
        return self._clock() < self._live_until

    def stay_live(self, seconds: float) -> None:
        """Messages arrive: what is remembered may be used for so long."""
        self._live_until = self._clock() + seconds

    def stop(self) -> None:
        """Messages may have been missed: everything is forgotten."""
        with self._lock:
            self._live_until = 0.0
            self.sequence += 1
            self._floor = self.sequence
            self._young, self._old, self._plans, self._changed = {}, {}, {}, {}

    def hear(self, name: str) -> None:
        """Takes a change of `device:<primary key>` or `plan:<slug>`."""
        with self._lock:
            self.sequence += 1
            if len(self._changed) >= MOST_CHANGED:
                self._floor = self.sequence
                self._changed = {}
            self._changed[name] = self.sequence

    def find(self, key: bytes) -> Remembered | None:
        """The answer that still holds, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                return None
            self._put(key, found)
        changed = self._changed
        if (
            found.born < self._floor
            or found.born < changed.get(f"device:{found.device}", 0)
            or found.born < changed.get(f"plan:{found.model}", 0)
            or found.until <= time.time()
            or self._clock() >= self._live_until
        ):
            return None
        return found

    def remember(self, key: bytes, answer: Remembered) -> None:
        """Keeps an answer whose `born` was read before the decision."""
        until = min(answer.until, time.time() + LONGEST_SECONDS)
        self._put(key, answer._replace(until=until))

    def plan(self, model: str) -> Any:
        """What `remember_plan` was given, while it holds; None otherwise."""
        born, plan = self._plans.get(model, (-1, None))
        holds = born >= max(self._floor, self._changed.get(f"plan:{model}", 0)) and self.is_live
        return plan if holds else None

    def remember_plan(self, model: str, born: int, plan: Any) -> None:
        """Keeps a model's plan and counter, read after `born`."""
        if len(self._plans) >= MOST_CHANGED:
            self._plans = {}
        self._plans[model] = (born, plan)

    def _put(self, key: bytes, answer: Remembered) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = answer
