"""When to try again. Full jitter after Brooker, "Exponential Backoff And Jitter" (AWS, 2015)."""

import random
from collections.abc import Callable


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
    return min(retry_after_s, 86_400.0) + min(jitter, max(retry_after_s, base_s))
