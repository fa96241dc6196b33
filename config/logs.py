"""Keeps a storm of equal lines out of the log."""

from __future__ import annotations

import logging
import threading
import time

MOST_LINES = 20
WINDOW_SECONDS = 10.0
_MOST_KINDS = 1000


class StormFilter(logging.Filter):
    """Lets through `MOST_LINES` of one kind in `WINDOW_SECONDS`; the next then says how many were
    left out. Of one kind are lines of one logger and level with the same text before its arguments.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, record.levelno, str(record.msg)[:200])
        now = time.monotonic()
        with self._lock:
            began, count = self._seen.get(kind, (now, 0))
            left_out = 0
            if now - began >= WINDOW_SECONDS:
                left_out, began, count = max(0, count - MOST_LINES), now, 0
            if len(self._seen) >= _MOST_KINDS:
                self._seen.clear()
            self._seen[kind] = (began, count + 1)
        if left_out:
            record.msg = f"{record.msg} [{left_out} more like this were left out]"
        return count < MOST_LINES
