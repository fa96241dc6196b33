"""Counts of many rows, made anew as often as they are cheap.

A count that takes milliseconds is made whenever it is asked for. One that takes seconds, over a
million rows, is told again until fifty times its own time has passed: then whoever counts in the
background makes it anew, and one who does not takes what there is for twice as long. So a count
costs a fiftieth of one processor at most, and no fleet is too small for exact numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.core.cache import cache

#: Seconds that a count may take to be made each time.
CHEAP_SECONDS = 0.02
#: A count is told again for so many times the time that it took.
WORTH = 50
KEEP_SECONDS = 86_400


def recount(key: str, count: Callable[[], Any], *, in_background: bool = False) -> Any:
    """What `count` returns, now or not long ago; a value that JSON can hold.

    Args:
        key: names what is counted and all that it depends on, but for the rows themselves.
        in_background: nobody waits, so a count that is due is made.
    """
    name = f"fleet:count:{key}"
    known = cache.get(name)
    if known is not None:
        age, cost = time.time() - known["at"], known["cost"]
        patience = WORTH * cost * (1 if in_background else 2)
        if cost > CHEAP_SECONDS and 0 <= age < patience:
            return known["value"]
    started = time.perf_counter()
    value = count()
    cost = time.perf_counter() - started
    if cost > CHEAP_SECONDS or known is not None:
        cache.set(name, {"at": time.time(), "cost": cost, "value": value}, KEEP_SECONDS)
    return value
