"""How long to wait before something is tried again."""

FIRST_SECONDS = 5.0
FACTOR = 4.0
LONGEST_SECONDS = 12 * 3600.0
#: About a day and a half from the first attempt to the last.
MOST_ATTEMPTS = 10
#: While a receiver does not answer, one message an interval of at most this asks whether it does.
LONGEST_PROBE_SECONDS = 15 * 60.0


def retry_seconds(attempts: int, draw: float, *, asked: float | None = None) -> float:
    """Seconds until the next attempt: exponential with "equal jitter" (Brooker 2015, AWS).

    Args:
        attempts: made so far, 1 or more.
        draw: uniform in [0, 1).
        asked: seconds that the receiver asked for by `Retry-After`; None when it did not.
    """
    if attempts < 1:
        raise ValueError(f"attempts is 1 or more; got {attempts}")
    # The exponent is bounded: a huge count must not overflow before the cap applies.
    whole = min(FIRST_SECONDS * FACTOR ** min(attempts - 1, 32), LONGEST_SECONDS)
    wait = whole / 2 + whole / 2 * draw
    return min(max(wait, asked or 0.0), LONGEST_SECONDS)


def probe_seconds(failures: int, draw: float) -> float:
    """Seconds until a receiver that failed `failures` times in a row is asked again."""
    return min(retry_seconds(failures, draw), LONGEST_PROBE_SECONDS)
