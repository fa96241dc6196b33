"""The child process that runs the passes: `python -m compression.engine.child order.json`.

It has no database, no credentials and no address of the server: it reads its order and files from
a scratch directory, limits itself before it loads any model tooling, and writes events to standard
output. Whatever a hostile model makes of it, the process group ends with the job.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from compression.engine.events import write_event
from compression.engine.failures import describe_failure
from registry.limited_process.limits import limit_process
from registry.processes import end_with_parent


def main(order_path: str) -> int:
    """Runs the order and returns the exit status: 0, or 3 with an `error` event."""
    order = json.loads(Path(order_path).read_text())
    end_with_parent(order["parent"])
    limits = order["limits"]
    limit_process(
        memory_bytes=limits["memory_bytes"],
        cpu_seconds=limits["wall_seconds"] * limits["threads"],
        file_bytes=limits["memory_bytes"],
        threads=limits["threads"],
        slot=order["slot"],
    )
    os.nice(5)
    # A library that prints must not be able to write into the stream of events.
    sys.stdout = sys.stderr
    from compression.exceptions import CompressionError

    try:
        _run(order, Path(order_path).parent)
    except CompressionError as error:
        write_event("error", code=error.code, message=str(error))
        return 3
    # The boundary of the process: every failure becomes an event.
    except Exception as error:  # noqa: BLE001
        import traceback

        traceback.print_exc()
        code, message = describe_failure(error, order["limits"])
        write_event("error", code=code, message=message)
        return 3
    return 0


def _run(order: dict[str, Any], scratch: Path) -> None:
    from compression.engine.run_recipe import run_chain

    started = time.monotonic()
    report = run_chain(order, scratch, write_event)
    write_event("report", report=report, seconds=round(time.monotonic() - started, 3))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
