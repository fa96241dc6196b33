"""How lines of the log look, what joins those of one request, and how many equal ones there are."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from contextvars import ContextVar
from datetime import UTC, datetime

import msgspec

MOST_LINES = 20
WINDOW_SECONDS = 10.0
_MOST_KINDS = 1000


#: Of the request that is being answered; empty outside of any.
request_id: ContextVar[str] = ContextVar("request_id", default="")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def take_request_id(header: str) -> str:
    """The request's id from here on: what a proxy in front gave it, or a new one."""
    given = header if _REQUEST_ID.fullmatch(header) else secrets.token_hex(8)
    request_id.set(given)
    return given


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `at`, `level`, `logger`, `message`, and `request_id` and `trace`
    where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


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
