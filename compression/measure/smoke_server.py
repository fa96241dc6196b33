"""Runs model files, each in a fork of its own: `python -m compression.measure.smoke_server`.

Reads orders from standard input, a line of JSON followed by samples as npz, and writes what became
of each as lines of JSON, see `compression.measure.smoke`.
"""

import io
import json
import os
import sys
from typing import Any, BinaryIO

import numpy as np

from compression.measure.sessions import open_session
from compression.measure.smoke import Call, signature_of
from registry.processes import end_with_parent
from registry.reading.golden import to_input


def main(orders: BinaryIO) -> None:
    """Serves until the input is closed."""
    while line := orders.readline():
        order = json.loads(line)
        content = orders.read(order["bytes"])
        server = os.getpid()
        child = os.fork()
        if child == 0:
            # Whatever happens, this fork does not come back to the loop.
            try:
                end_with_parent(server)
                _try_file(order, content)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        _say("end", os.waitstatus_to_exitcode(status))


def _try_file(order: dict[str, Any], content: bytes) -> None:
    calls = _read_calls(order["rows"], content)
    try:
        for count in order["threads"]:
            threads = f"{count} thread{'' if count == 1 else 's'}"
            _say("place", f"loaded with {threads}")
            session = open_session(order["path"], threads=count)
            _say("signature", signature_of(session))
            for call in calls:
                rows = f"{call.rows} row{'' if call.rows == 1 else 's'}"
                _say("place", f"with {threads} on {rows}")
                session.run(None, dict(call.feed))
    # Every class of ONNX Runtime's binding derives from Exception alone; all are told.
    except Exception as error:  # noqa: BLE001
        _say("failure", str(error)[:500])


def _read_calls(rows: list[int], content: bytes) -> list[Call]:
    feeds: list[dict[str, Any]] = [{} for _ in rows]
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        for key in archive.files:
            index, _, name = key.partition(":")
            feeds[int(index)][name] = to_input(archive[key])
    return [Call(size, feed) for size, feed in zip(rows, feeds, strict=True)]


def _say(kind: str, value: Any) -> None:
    # Unbuffered, so that nothing is lost when the process is ended.
    os.write(1, json.dumps([kind, value]).encode() + b"\n")


if __name__ == "__main__":
    main(sys.stdin.buffer)
