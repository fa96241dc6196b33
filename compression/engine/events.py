"""The child's standard output: one JSON object per line. Pure."""

import json
import sys
from typing import Any, TextIO

MAX_LINE_BYTES = 4 * 1024 * 1024


def write_event(kind: str, *, stream: TextIO | None = None, **values: Any) -> None:
    """Writes one event and flushes, so that the supervisor sees it at once."""
    print(
        json.dumps({"event": kind, **values}, allow_nan=False),
        file=stream or sys.__stdout__,
        flush=True,
    )


def read_event(line: str) -> dict[str, Any] | None:
    """The event of a line, or None for a line that is not one (a library's own output)."""
    if not line.startswith("{") or len(line) > MAX_LINE_BYTES:
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
