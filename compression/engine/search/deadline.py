"""A time limit on code that knows of none: the passes a search calls."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from compression.exceptions import BudgetSpentError

# Fires again in case a library swallowed the first one.
_REPEAT_SECONDS = 5.0


@contextlib.contextmanager
def interrupt_after(seconds: float) -> Iterator[None]:
    """Raises BudgetSpentError in the body once the time is up.

    The interval timer reaches Python between two of its instructions, so one long call into ONNX
    Runtime finishes first. Off the main thread, where no signal arrives, nothing is interrupted.

    Raises:
        BudgetSpentError
    """
    if seconds <= 0:
        raise BudgetSpentError("No time is left.")
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise BudgetSpentError(f"Interrupted after {seconds:.1f} seconds.")

    started = time.monotonic()
    old_handler = signal.signal(signal.SIGALRM, stop)
    old_delay, old_interval = signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old_handler)
        if old_delay:
            # Whoever had a timer running before gets the rest of it.
            rest = max(old_delay - (time.monotonic() - started), 0.001)
            signal.setitimer(signal.ITIMER_REAL, rest, old_interval)
