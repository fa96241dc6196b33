"""A model file opened and run in a process of its own, before anything else trusts it.

ONNX Runtime can end the whole process on a file that a quantizer wrote: one INT8 file did with two
threads and not with one. What happens here happens to a process that nobody misses.
"""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import compression
from compression.measure.samples import Samples

Signature = list[tuple[str, str, int]]
BATCHES = (1, 2, 5)
_ROOT = Path(compression.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Call:
    """What a model is called with, and how many rows that are."""

    rows: int
    feed: Mapping[str, NDArray[Any]]


def list_calls(samples: Samples) -> list[Call]:
    """A call of each size that the model takes, on the first rows."""
    sizes = dict.fromkeys(samples.count_rows(size) for size in BATCHES)
    return [Call(size, samples.feed(size)) for size in sizes]


@dataclass(frozen=True)
class Smoke:
    """What became of a file.

    Attributes:
        signature: see `signature_of`; None where the file does not load.
        failure: what went wrong, with how many threads and rows; empty when nothing did.
    """

    signature: Signature | None
    failure: str = ""


def signature_of(session: Any) -> Signature:
    """Name, type and number of axes of each input, then of each output."""
    items = [*session.get_inputs(), *session.get_outputs()]
    return [(item.name, item.type, len(item.shape)) for item in items]


def smoke_run(path: Path, calls: Sequence[Call], *, threads: int) -> Smoke:
    """Loads the file with one thread and with several, and runs the calls with each.

    Args:
        calls: of `list_calls`; empty: the file is loaded and not run.
        threads: two at least are tried.
    """
    signature: Signature | None = None
    place = failure = ""
    for kind, value in _SERVER.ask(path, calls, threads=[1, max(threads, 2)]):
        if kind == "signature":
            signature = [(name, type_, axes) for name, type_, axes in value]
        elif kind == "place":
            place = value
        elif kind == "failure":
            failure = f"{place}: {value}"
        elif value != 0 and not failure:
            failure = f"{place}: the process ended with {_describe_end(value)}."
    return Smoke(signature, failure)


class _Server:
    """A process with ONNX Runtime imported and no thread running, which forks for each file.

    It is started once and ends when this process does: its input is then closed.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(
        self, path: Path, calls: Sequence[Call], *, threads: list[int]
    ) -> list[tuple[str, Any]]:
        """What the process that ran the file said, the last being `end` with its status."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = {}
        for index, call in enumerate(calls):
            for name, value in call.feed.items():
                # Texts in a type that is stored without pickle.
                storable = value.astype(str) if value.dtype.kind == "O" else value
                arrays[f"{index}:{name}"] = storable
        np.savez(stream, **arrays)
        content = stream.getvalue()
        order = {
            "path": str(path.resolve()),
            "threads": threads,
            "rows": [call.rows for call in calls],
            "bytes": len(content),
        }
        with self._lock:
            try:
                return self._exchange(order, content)
            except BaseException:
                # A time limit may strike here; what the process still says would be taken for the
                # answer to the next question.
                process, self._process = self._process, None
                if process is not None:
                    process.kill()
                    process.wait()
                raise

    def _exchange(self, order: Mapping[str, Any], content: bytes) -> list[tuple[str, Any]]:
        process = self._start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(order).encode() + b"\n" + content)
        process.stdin.flush()
        said: list[tuple[str, Any]] = []
        while not said or said[-1][0] != "end":
            line = process.stdout.readline()
            if not line:
                # The server itself was ended, by the kernel for its memory for example.
                said.append(("end", process.wait() or 1))
                break
            kind, value = json.loads(line)
            said.append((kind, value))
        return said

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "compression.measure.smoke_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(_ROOT)},
            )
        return self._process


_SERVER = _Server()


def _describe_end(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"status {code}"
