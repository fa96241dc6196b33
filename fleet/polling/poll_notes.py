"""What a poll leaves behind, kept in the cache until it is written in bulk.

A poll takes a number from one rising counter and stores its note under it; the flush reads the
numbers it has not seen and confirms them once they are written. Losing notes costs a late "last
seen", never a fact: an offer is on record before it is answered, what a device did arrives as
events, and what it runs is said again with the next poll. The cache also holds *epochs*:
short-lived random values that every change of a plan or a device replaces, so that a remembered
304 can be told to be out of date.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.cache import cache

logger = logging.getLogger(__name__)

NOTE_SECONDS = 3600
#: With a cache of one process, changes made in another are noticed when the epoch runs out.
EPOCH_SECONDS_SHARED = 3600
EPOCH_SECONDS_LOCAL = 30
LOCAL_FLUSH_SECONDS = 10

LOCK_SECONDS = 60

_LOCK = "fleet:poll:lock"
_TAIL = "fleet:poll:tail"
_HEAD = "fleet:poll:head"


def has_shared_cache() -> bool:
    """True when all processes see the same cache."""
    return "locmem" not in settings.CACHES["default"]["BACKEND"]


def buffer_poll(note: dict[str, Any]) -> None:
    """Keeps one poll's note: `device` (primary key), `at`, `model`, `running`, `agent_version`, and
    `offered`, the digest of what was offered, by which deltas are learnt.

    A cache that is down loses the note and nothing else.
    """
    try:
        try:
            number = cache.incr(_TAIL)
        except ValueError:
            cache.add(_TAIL, 0, None)
            number = cache.incr(_TAIL)
        cache.set(f"fleet:poll:{number}", note, NOTE_SECONDS)
    except Exception:
        logger.warning("A poll could not be buffered", exc_info=True)


@contextmanager
def taken_polls(limit: int = 10_000) -> Iterator[list[dict[str, Any]]]:
    """The oldest notes that are not written yet; forgotten when the block ends well.

    A block that fails leaves them for the next one. While one block is open, others get none, so
    no note is given out twice; a holder that died lets go after a minute.
    """
    holder = secrets.token_hex(8)
    if not cache.add(_LOCK, holder, LOCK_SECONDS):
        yield []
        return
    try:
        tail = cache.get(_TAIL, 0)
        head = cache.get(_HEAD, 0)
        if head > tail:
            head = 0
        last = min(tail, head + limit)
        keys = [f"fleet:poll:{number}" for number in range(head + 1, last + 1)]
        found = cache.get_many(keys) if keys else {}
        yield [found[key] for key in keys if key in found]
        if keys:
            cache.set(_HEAD, last, None)
            cache.delete_many(keys)
    finally:
        if cache.get(_LOCK) == holder:
            cache.delete(_LOCK)


def is_local_flush_due() -> bool:
    """True when this process must flush its own cache, at most once per 10 seconds."""
    return not has_shared_cache() and cache.add("fleet:poll:flushed", 1, LOCAL_FLUSH_SECONDS)


def read_epochs(names: Iterable[str]) -> dict[str, str]:
    """The current epochs, made where there are none."""
    names = list(names)
    seconds = EPOCH_SECONDS_SHARED if has_shared_cache() else EPOCH_SECONDS_LOCAL
    found = cache.get_many([epoch_key(name) for name in names])
    epochs = {}
    for name in names:
        key = epoch_key(name)
        if key not in found:
            cache.add(key, secrets.token_hex(8), seconds)
            found[key] = cache.get(key, "")
        epochs[name] = found[key]
    return epochs


def bump_epoch(name: str) -> None:
    """No answer remembered under this epoch is used again."""
    seconds = EPOCH_SECONDS_SHARED if has_shared_cache() else EPOCH_SECONDS_LOCAL
    try:
        cache.set(epoch_key(name), secrets.token_hex(8), seconds)
    except Exception:
        # The change is committed; the fast lane reads the same cache, so it is down as well.
        logger.error("Epoch %s could not be replaced", name, exc_info=True)


def epoch_key(name: str) -> str:
    """The cache key of an epoch: `plan:<slug>` or `device:<primary key>`."""
    return f"fleet:epoch:{name}"


def answer_key(token_digest: str, query: str) -> str:
    """The cache key of a device's remembered 304."""
    return f"fleet:304:{token_digest}:{hashlib.sha256(query.encode()).hexdigest()[:24]}"


def remember_answer(
    *,
    token_digest: str,
    query: str,
    device: int,
    model: str,
    etag: str,
    running: str,
    agent_version: str,
    epochs: dict[str, str],
    good_for_s: float,
) -> None:
    """Lets the fast lane repeat this 304 while the epochs, read before the decision, hold."""
    entry = {
        "device": device,
        "model": model,
        "etag": etag,
        "running": running,
        "agent_version": agent_version,
        "epochs": {epoch_key(name): value for name, value in epochs.items()},
        "until": time.time() + good_for_s,
    }
    try:
        cache.set(answer_key(token_digest, query), entry, int(good_for_s) + 1)
    except Exception:
        logger.warning("An answer could not be remembered", exc_info=True)
