"""What a poll leaves behind, kept in the cache until it is written in bulk.

A poll takes a number from one rising counter and stores its note under it; the flush reads the
numbers it has not seen. Losing notes costs a late "last seen", never a fact: what a device did
arrives as events. The cache also holds *epochs*: short-lived random values that every change of
a plan or a device replaces, so that a remembered 304 can be told to be out of date.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.cache import cache

logger = logging.getLogger(__name__)

NOTE_SECONDS = 3600
#: With a cache of one process, changes made in another are noticed when the epoch runs out.
EPOCH_SECONDS_SHARED = 3600
EPOCH_SECONDS_LOCAL = 30
LOCAL_FLUSH_SECONDS = 10

_TAIL = "fleet:poll:tail"
_HEAD = "fleet:poll:head"


def has_shared_cache() -> bool:
    """True when all processes see the same cache."""
    return "locmem" not in settings.CACHES["default"]["BACKEND"]


def buffer_poll(note: dict[str, Any]) -> None:
    """Keeps one poll's note: `device` (primary key), `at`, `running`, `agent_version`, `offer`.

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


def take_polls(limit: int = 10_000) -> list[dict[str, Any]]:
    """The notes since the last call, oldest first; each is given out once."""
    tail = cache.get(_TAIL, 0)
    head = cache.get(_HEAD, 0)
    if head > tail:
        head = 0
    last = min(tail, head + limit)
    if last <= head:
        return []
    keys = [f"fleet:poll:{number}" for number in range(head + 1, last + 1)]
    found = cache.get_many(keys)
    cache.set(_HEAD, last, None)
    cache.delete_many(keys)
    return [found[key] for key in keys if key in found]


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
    """Makes every answer remembered under this epoch worthless."""
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
