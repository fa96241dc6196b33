"""Starts the child process, reads its events, and ends its whole process group.

The child gets a scratch directory, a fixed number of threads and an environment without a single
secret; it limits its own CPU time and files before it loads a model. Its memory is watched here.
"""

import json
import logging
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.engine.events import MAX_LINE_BYTES, read_event
from compression.engine.failures import describe_memory
from registry.limited_process.parent import (
    GRACE_SECONDS,
    MemoryWatch,
    end_group,
    read_tail,
    start_process,
)

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome:
    """How the child ended: `done`, `error`, `cancelled` or `timed_out`."""

    kind: str
    report: dict[str, Any] | None = None
    code: str = ""
    message: str = ""


def supervise(
    scratch: Path,
    *,
    wall_seconds: float,
    threads: int,
    on_event: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
    slot: int = 0,
) -> Outcome:
    """Runs `scratch/order.json` and returns how it ended.

    Args:
        scratch: where the order and all files are.
        wall_seconds: the child is ended after this time.
        threads: for the numeric libraries.
        slot: which of the jobs on this machine it is.
        on_event: called with each event, in this thread.
        should_stop: asked twice a second; True ends the child.
    """
    path = scratch / "order.json"
    order = {**json.loads(path.read_text()), "parent": os.getpid(), "slot": slot}
    path.write_text(json.dumps(order))
    memory_bytes = order["limits"]["memory_bytes"]
    with (scratch / "stderr.log").open("wb") as errors:
        process = start_process(
            "compression.engine.child",
            path,
            folder=scratch,
            threads=threads,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            with MemoryWatch(process, memory_bytes) as watch:
                outcome = _follow(process, scratch, wall_seconds, on_event, should_stop)
        finally:
            end_group(process)
    if watch.is_exceeded and outcome.kind == "error":
        return Outcome("error", code="out_of_memory", message=describe_memory(memory_bytes))
    return outcome


def _follow(
    process: subprocess.Popen[bytes],
    scratch: Path,
    wall_seconds: float,
    on_event: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> Outcome:
    lines: queue.Queue[bytes | None] = queue.Queue(maxsize=1000)
    threading.Thread(target=_read_lines, args=(process, lines), daemon=True).start()
    deadline = time.monotonic() + wall_seconds
    error: Outcome | None = None
    report: dict[str, Any] | None = None
    next_check = 0.0
    while True:
        now = time.monotonic()
        if now >= deadline:
            return Outcome("timed_out", message=f"Ended after {wall_seconds:g} seconds.")
        if now >= next_check:
            next_check = now + POLL_SECONDS
            if should_stop():
                return Outcome("cancelled")
        try:
            line = lines.get(timeout=min(POLL_SECONDS, max(deadline - now, 0.01)))
        except queue.Empty:
            continue
        if line is None:
            break
        event = read_event(line.decode("utf-8", "replace"))
        if event is None:
            continue
        if event["event"] == "report":
            report = event["report"]
        elif event["event"] == "error":
            error = Outcome("error", code=event["code"], message=event["message"])
        else:
            on_event(event)
    status = process.wait(timeout=GRACE_SECONDS)
    if error is not None:
        return error
    if report is not None and status == 0:
        return Outcome("done", report=report)
    if status == -signal.SIGXCPU:
        return Outcome("timed_out", message="The CPU time limit was reached.")
    return Outcome("error", code="child_died", message=_describe_death(status, scratch))


def _read_lines(process: subprocess.Popen[bytes], lines: "queue.Queue[bytes | None]") -> None:
    assert process.stdout is not None
    try:
        while line := process.stdout.readline(MAX_LINE_BYTES):
            lines.put(line)
    except ValueError:  # closed while reading: the child was ended
        pass
    finally:
        lines.put(None)


def _describe_death(status: int, scratch: Path) -> str:
    how = f"signal {-status}" if status < 0 else f"status {status}"
    last = read_tail(scratch / "stderr.log").strip().splitlines()[-3:]
    return f"The child process ended with {how}. " + " / ".join(last)
