"""Tells every web process that a device or a plan has changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.client import PubSub
from redis.exceptions import RedisError

from fleet.polling.memory import PollMemory
from fleet.polling.shared import key_of, shared_client

logger = logging.getLogger(__name__)

PING_SECONDS = 1.0
#: Without an answer for so long, the line to the messages counts as broken.
SILENT_SECONDS = 5.0
AGAIN_SECONDS = 1.0
MOST_TOGETHER = 1000


def announce_change(name: str) -> None:
    """Ends every remembered answer that rests on `device:<primary key>` or `plan:<slug>`.

    Called once the change is committed.
    """
    announce_changes([name])


def announce_changes(names: Sequence[str]) -> None:
    """The same for many at once."""
    client = shared_client()
    if client is None:
        return
    try:
        for start in range(0, len(names), MOST_TOGETHER):
            with client.pipeline(transaction=False) as pipe:
                for name in names[start : start + MOST_TOGETHER]:
                    pipe.publish(_channel(client), name)
                pipe.execute()
    except (RedisError, OSError):
        # Those who listen have lost the same server, and use nothing that they remember.
        logger.error("%d changes could not be announced", len(names), exc_info=True)


class _Line(PubSub):
    """A subscription that does not mend itself: what came in between would be missed unnoticed."""

    def on_connect(self, connection: Any) -> None:
        raise LineBrokenError("the line to the messages was broken")


class LineBrokenError(RedisError):
    """Messages may have been missed."""


class Listener(threading.Thread):
    """Hears changes for the memory of this process, and keeps it live while it hears them."""

    def __init__(self, memory: PollMemory) -> None:
        super().__init__(name="poll-changes", daemon=True)
        self._memory = memory
        self._is_ending = threading.Event()

    def run(self) -> None:
        while not self._is_ending.is_set():
            client = shared_client()
            if client is None:
                return
            try:
                self._listen(client)
            except (RedisError, OSError) as error:
                logger.warning("Changes cannot be heard: %s", error)
            self._memory.stop()
            self._is_ending.wait(AGAIN_SECONDS)

    def end(self) -> None:
        """Has the thread end within a second or so."""
        self._is_ending.set()

    def _listen(self, client: Redis) -> None:
        with _Line(client.connection_pool, ignore_subscribe_messages=True) as line:
            line.subscribe(_channel(client))
            heard_at = asked_at = time.monotonic()
            line.ping()
            while not self._is_ending.is_set():
                message = line.get_message(timeout=PING_SECONDS)
                now = time.monotonic()
                if message is not None:
                    heard_at = now
                    self._memory.stay_live(SILENT_SECONDS)
                    if message["type"] == "message":
                        self._memory.hear(message["data"].decode())
                if now - asked_at >= PING_SECONDS:
                    asked_at = now
                    line.ping()
                if now - heard_at > SILENT_SECONDS:
                    raise TimeoutError(f"no answer for {now - heard_at:.0f} s")


def _channel(client: Redis) -> str:
    # Messages know no database of the server, so its number is in their name.
    database = client.connection_pool.connection_kwargs.get("db", 0)
    return f"{key_of('fleet:changes')}:{database}"
