"""What polls leave behind, kept until it is written in bulk.

A process adds equal notes up and sends them every second as one entry of a stream; the flush takes
the oldest entries, and they are removed once they are written. Losing notes costs a late "last
seen", never a fact: an offer is on record before it is answered, what a device did arrives as
events, and what it runs is said again with the next poll. Where processes share no cache, each
keeps and writes its own.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import msgspec
from django.core.cache import cache
from redis.exceptions import RedisError

from fleet.polling.shared import key_of, shared_client

logger = logging.getLogger(__name__)

#: Different notes in memory of one process, and in one entry of the stream.
MOST_WAITING = 50_000
ENTRY_NOTES = 1000
#: Entries of the stream, about 100 kB each; the oldest go first.
MOST_ENTRIES = 4000
#: Entries that one transaction writes.
TAKEN_ENTRIES = 20
LOCAL_FLUSH_SECONDS = 10
LOCK_SECONDS = 180

_LOCK = "fleet:poll:lock"
_STREAM = "fleet:polls"


class PollNote(NamedTuple):
    """Polls of one device that said the same."""

    device: int
    model: str
    running: str
    agent_version: str
    #: The digest of what was offered, by which deltas are learnt; empty without an offer.
    offered: str
    polls: int
    #: Wall clock of the last of them, seconds.
    at: float


class _Waiting:
    """Notes of this process that nobody else knows of."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, str, str, str], list[float]] = {}
        self._lock = threading.Lock()

    def add(self, key: tuple[int, str, str, str, str], at: float) -> int:
        with self._lock:
            found = self._counts.get(key)
            if found is None:
                self._counts[key] = [1, at]
            else:
                found[0] += 1
                found[1] = at
            return len(self._counts)

    def take(self) -> list[PollNote]:
        with self._lock:
            counts, self._counts = self._counts, {}
        return [PollNote(*key, int(polls), at) for key, (polls, at) in counts.items()]


_waiting = _Waiting()
#: What an embedded server has not written; beyond so many the oldest are lost.
_local: deque[list[PollNote]] = deque(maxlen=MOST_ENTRIES)
#: True while somebody calls `send_notes` every second.
is_sent_regularly = False


def has_shared_cache() -> bool:
    """True when all processes see the same cache."""
    return shared_client() is not None


def note_poll(
    device: int, model: str, running: str, agent_version: str, *, offered: str = ""
) -> None:
    """Keeps one poll's note: the device's primary key, and what it said or was offered."""
    waiting = _waiting.add((device, model, running, agent_version, offered), time.time())
    if not is_sent_regularly or waiting >= MOST_WAITING:
        send_notes()


def send_notes() -> None:
    """Sends this process's notes on; a cache that is down loses them and nothing else."""
    notes = _waiting.take()
    if not notes:
        return
    pieces = [notes[i : i + ENTRY_NOTES] for i in range(0, len(notes), ENTRY_NOTES)]
    client = shared_client()
    if client is None:
        _local.extend(pieces)
        return
    try:
        with client.pipeline(transaction=False) as pipe:
            for piece in pieces:
                # Approximately: trimming to the exact number would cost Redis more.
                pipe.xadd(
                    key_of(_STREAM),
                    {"notes": msgspec.json.encode(piece)},
                    maxlen=MOST_ENTRIES,
                    approximate=True,
                )
            pipe.execute()
    except (RedisError, OSError):
        logger.warning("%d notes of polls could not be sent", len(notes), exc_info=True)


@contextmanager
def taken_polls(entries: int = TAKEN_ENTRIES) -> Iterator[list[PollNote]]:
    """The oldest notes that are not written yet; forgotten when the block ends well.

    A block that fails leaves them for the next one. While one block is open, others get none, so
    no note is given out twice; a holder that died lets go after three minutes.
    """
    holder = secrets.token_hex(8)
    if not cache.add(_LOCK, holder, LOCK_SECONDS):
        yield []
        return
    try:
        send_notes()
        client = shared_client()
        if client is None:
            taken = [_local[i] for i in range(min(entries, len(_local)))]
            yield [note for piece in taken for note in piece]
            for _ in taken:
                _local.popleft()
            return
        found = cast(
            "list[tuple[bytes, dict[bytes, bytes]]]",
            client.xrange(key_of(_STREAM), count=entries),
        )
        yield [note for _, entry in found for note in _read_entry(entry)]
        if found:
            client.xdel(key_of(_STREAM), *(number for number, _ in found))
    finally:
        if cache.get(_LOCK) == holder:
            cache.delete(_LOCK)


def is_local_flush_due() -> bool:
    """True when this process must flush its own notes, at most once per 10 seconds."""
    return not has_shared_cache() and cache.add("fleet:poll:flushed", 1, LOCAL_FLUSH_SECONDS)


def forget_notes() -> None:
    """Drops what this process has not sent or written, for tests."""
    _waiting.take()
    _local.clear()


def _read_entry(entry: dict[bytes, bytes]) -> list[PollNote]:
    try:
        return msgspec.json.decode(entry[b"notes"], type=list[PollNote])
    except (KeyError, msgspec.DecodeError) as error:
        # Whoever may write to Redis must not thereby stop the flush.
        logger.warning("An entry with notes of polls cannot be read and is dropped: %s", error)
        return []
