"""The child process that runs the passes: `python -m compression.child order.json`.

It has no database, no credentials and no address of the server: it reads its order and files from
a scratch directory, limits itself before it loads any model tooling, and writes events to standard
output. Whatever a hostile model makes of it, the process group ends with the job.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from compression.events import write_event

_PR_SET_PDEATHSIG = 1


def limit_process(limits: dict[str, int]) -> None:
    """Sets address space, CPU seconds, file size and core dumps of this process."""
    memory = limits["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    seconds = limits["wall_seconds"] * limits["threads"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_with_parent() -> None:
    """Asks Linux to end this process when its worker dies; elsewhere the wall limit does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(order_path: str) -> int:
    """Runs the order and returns the exit status: 0, or 3 with an `error` event."""
    order = json.loads(Path(order_path).read_text())
    end_with_parent()
    limit_process(order["limits"])
    os.nice(5)
    # A library that prints must not be able to write into the stream of events.
    sys.stdout = sys.stderr
    from compression.exceptions import CompressionError

    try:
        _run(order, Path(order_path).parent)
    except CompressionError as error:
        write_event("error", code=error.code, message=str(error))
        return 3
    except MemoryError:
        write_event("error", code="out_of_memory", message="The memory limit was reached.")
        return 3
    # The boundary of the process: every failure becomes an event.
    except Exception as error:  # noqa: BLE001
        import traceback

        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        write_event("error", code="pass_failed", message=message[:2000])
        return 3
    return 0


def _run(order: dict[str, Any], scratch: Path) -> None:
    from compression.chain import run_chain

    started = time.monotonic()
    report = run_chain(order, scratch, write_event)
    write_event("report", report=report, seconds=round(time.monotonic() - started, 3))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
