"""Starts the child process, reads its events, and ends its whole process group.

The child gets a scratch directory, a fixed number of threads and an environment without a single
secret; it limits its own address space and CPU time before it loads a model.
"""

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.engine.events import MAX_LINE_BYTES, read_event

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.5
GRACE_SECONDS = 3.0
_STDERR_TAIL_BYTES = 8192


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
    with (scratch / "stderr.log").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "compression.engine.child", str(path)],
            cwd=scratch,
            env=_environment(scratch, threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            close_fds=True,
        )
        try:
            return _follow(process, scratch, wall_seconds, on_event, should_stop)
        finally:
            _end_group(process)


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
    tail = (scratch / "stderr.log").read_bytes()[-_STDERR_TAIL_BYTES:]
    last = tail.decode("utf-8", "replace").strip().splitlines()[-3:]
    return f"The child process ended with {how}. " + " / ".join(last)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the child and everything it started; harmless when it has ended already."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _environment(scratch: Path, threads: int) -> dict[str, str]:
    count = str(threads)
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
    }
