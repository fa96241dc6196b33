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
from compression.measure.smoke import Feed, signature_of


def main(orders: BinaryIO) -> None:
    """Serves until the input is closed."""
    while line := orders.readline():
        order = json.loads(line)
        content = orders.read(order["bytes"])
        child = os.fork()
        if child == 0:
            # Whatever happens, this fork does not come back to the loop.
            try:
                _try_file(order, content)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        _say("end", os.waitstatus_to_exitcode(status))


def _try_file(order: dict[str, Any], content: bytes) -> None:
    rows: Feed | None = None
    if content:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            rows = {name: archive[name] for name in archive.files}
    try:
        for count in order["threads"]:
            threads = f"{count} thread{'' if count == 1 else 's'}"
            _say("place", f"loaded with {threads}")
            session = open_session(order["path"], threads=count)
            _say("signature", signature_of(session))
            for size in _list_sizes(session, order["batches"]) if rows is not None else ():
                _say("place", f"with {threads} on {size} row{'' if size == 1 else 's'}")
                assert rows is not None
                feed = {name: np.resize(v, (size, *v.shape[1:])) for name, v in rows.items()}
                session.run(None, feed)
    # Every class of ONNX Runtime's binding derives from Exception alone; all are told.
    except Exception as error:  # noqa: BLE001
        _say("failure", str(error)[:500])


def _list_sizes(session: Any, wanted: list[int]) -> list[int]:
    first = session.get_inputs()[0].shape
    is_fixed = first and isinstance(first[0], int) and first[0] > 0
    return [first[0]] if is_fixed else wanted


def _say(kind: str, value: Any) -> None:
    # Unbuffered, so that nothing is lost when the process is ended.
    os.write(1, json.dumps([kind, value]).encode() + b"\n")


if __name__ == "__main__":
    main(sys.stdin.buffer)
