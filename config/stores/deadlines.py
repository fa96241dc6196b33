"""Ends what has taken too long, from a thread of its own.

Some calls cannot be given a deadline by their library: psycopg waits for a database that hangs for
as long as the connection stands. What is watched here names what ends the wait from outside.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2

#: Seconds that one statement may take here; None for the setting's.
statement_seconds: ContextVar[float | None] = ContextVar("statement_seconds", default=None)


class Watchman:
    """One thread that looks at what is under way; started with the first use in a process."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[float, Callable[[], None]]] = {}
        self._numbers = count()
        self._lock = threading.Lock()
        self._pid = 0

    @contextmanager
    def watch(self, seconds: float, end: Callable[[], None]) -> Iterator[None]:
        """Calls `end`, once, when the block has taken `seconds`."""
        if self._pid != os.getpid():
            self._start()
        number = next(self._numbers)
        self._watched[number] = (time.monotonic() + seconds, end)
        try:
            yield
        finally:
            self._watched.pop(number, None)

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            self._watched = {}
            threading.Thread(target=self._run, name="deadlines", daemon=True).start()
            self._pid = os.getpid()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for number, (deadline, _) in list(self._watched.items()):
                if now >= deadline:
                    found = self._watched.pop(number, None)
                    if found is not None:
                        _end(found[1])


def _end(end: Callable[[], None]) -> None:
    try:
        end()
    except Exception:
        logger.exception("What took too long could not be ended")


watchman = Watchman()
