"""Counts of many rows, made anew as often as they are cheap.

A count that takes milliseconds is made whenever it is asked for. One that takes seconds, over a
million rows, is told again until fifty times its own time has passed: then whoever counts in the
background makes it anew, and one who does not takes what there is for twice as long. So a count
costs a fiftieth of one processor at most, and no fleet is too small for exact numbers: what took
long once, since the machine was busy, is made again at once, and only two such in a row count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.utils import timezone

#: Seconds that a count may take to be made each time.
CHEAP_SECONDS = 0.02
#: A count is told again for so many times the time that it took.
WORTH = 50
KEEP_SECONDS = 86_400


def recount(
    key: str,
    count: Callable[[], Any],
    *,
    in_background: bool = False,
    now: datetime | None = None,
) -> Any:
    """What `count` returns, now or not long ago; a value that JSON can hold.

    Args:
        key: names what is counted and all that it depends on, but for the rows themselves.
        in_background: nobody waits, so a count that is due is made.
        now: when it is asked for; the clock's time without it.
    """
    name = f"fleet:counted:{key}"
    at = (now or timezone.now()).timestamp()
    known = cache.get(name)
    if known is not None:
        age, cost = at - known["at"], known["cost"]
        patience = WORTH * cost * (1 if in_background else 2)
        if cost > CHEAP_SECONDS and 0 <= age < patience:
            return known["value"]
    started = time.perf_counter()
    value = count()
    took = time.perf_counter() - started
    cost = 0.0 if known is None else min(took, known["took"])
    if took > CHEAP_SECONDS or known is not None:
        cache.set(name, {"at": at, "took": took, "cost": cost, "value": value}, KEEP_SECONDS)
    return value
