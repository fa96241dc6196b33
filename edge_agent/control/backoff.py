"""When to try again. Full jitter after Brooker, "Exponential Backoff And Jitter" (AWS, 2015)."""

import random
from collections.abc import Callable

MAX_RETRY_AFTER_S = 3600.0
"""A server's `Retry-After` counts up to here: a hint must not silence a device for a day."""


def backoff_delay_s(
    failures: int,
    *,
    base_s: float,
    max_s: float,
    retry_after_s: float | None = None,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Seconds to wait after `failures` failures in a row (1 or more).

    A server's `Retry-After` is the least, jitter comes on top: a fleet told the same number must
    not come back as one.
    """
    ceiling = min(max_s, base_s * 2.0 ** min(max(failures, 1), 30))
    jitter = uniform(0.0, ceiling)
    if retry_after_s is None:
        return jitter
    asked_s = min(max(retry_after_s, 0.0), MAX_RETRY_AFTER_S)
    return asked_s + min(jitter, max(asked_s, base_s))
