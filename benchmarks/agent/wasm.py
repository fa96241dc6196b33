"""What the sandbox costs: a ready instance, and each image that goes through it.

`wasm_ready_ms`: a fresh instance of a loaded module, bound to the model and ready for its first
image (median). `wasm_load_ms`: a new engine with compiled code from the cache, then the same.
`wasm_compile_ms`: the same without the cache.

`wasm_added_us_p50`: the median time of one raw image through the guest, less the median of the same
work in numpy around the same session (resize, normalise, run, softmax, top-k). The two take turns,
so that whatever else the machine does falls on both. `wasm_over_bare_us_p50` is the same less the
bare `session.run` on a tensor prepared beforehand.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edge_agent.config import SandboxConfig
from edge_agent.sandbox.compiled import CompiledCache
from edge_agent.sandbox.guest_instance import GuestModel
from edge_agent.sandbox.processor import read_packaged_guest
from edge_agent.sandbox.sandbox import Sandbox
from tests.edge_agent.raw_images import classify_outside, prepare_image

DATA = Path(__file__).resolve().parents[2] / "demo" / "data"
MODEL = GuestModel(channels=1, height=8, width=8, classes=10)
STARTS, RUNS = 300, 3000


def measure() -> dict[str, float]:
    """The figures named above; the demonstration's classifier, one thread."""
    session = open_session(DATA / "digits-cnn-1.1.0.onnx")
    with np.load(DATA / "eval.npz") as archive:
        pixels = (archive["x"][0].transpose(1, 2, 0) * 255).round().astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        cache = CompiledCache(Path(folder))
        compile_ms = time_ms(lambda: open_sandbox(session, None), 5)
        open_sandbox(session, cache)
        load_ms = time_ms(lambda: open_sandbox(session, cache), 20)
        sandbox = Sandbox(read_packaged_guest(), session, SandboxConfig(), cache=cache)
        ready_ms = time_ms(lambda: sandbox.prepare(MODEL), STARTS)
        guest, numpy, bare = compare(session, sandbox, pixels)
        sandbox.close()
    return {
        "wasm_ready_ms": round(ready_ms, 3),
        "wasm_load_ms": round(load_ms, 2),
        "wasm_compile_ms": round(compile_ms, 2),
        "wasm_us_p50": round(guest, 1),
        "numpy_us_p50": round(numpy, 1),
        "bare_run_us_p50": round(bare, 1),
        "wasm_added_us_p50": round(guest - numpy, 1),
        "wasm_over_bare_us_p50": round(guest - bare, 1),
    }


def open_session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def open_sandbox(session: Any, cache: CompiledCache | None) -> None:
    sandbox = Sandbox(read_packaged_guest(), session, SandboxConfig(), cache=cache)
    sandbox.prepare(MODEL)
    sandbox.close()


def compare(session: Any, sandbox: Sandbox, image: Any) -> tuple[float, float, float]:
    """Median microseconds of guest, numpy and bare run, by turns; the answers must agree."""
    inside, outside = sandbox.classify(image), classify_outside(session, image, MODEL, top_k=3)
    if [hit[0] for hit in inside] != [hit[0] for hit in outside]:
        raise AssertionError(f"the guest says {inside}, numpy says {outside}")
    feed = {session.get_inputs()[0].name: prepare_image(image, MODEL)}
    calls: list[Callable[[], Any]] = [
        lambda: sandbox.classify(image),
        lambda: classify_outside(session, image, MODEL, top_k=3),
        lambda: session.run(None, feed),
    ]
    times = np.empty((RUNS, len(calls)))
    for row in times:
        for column, call in enumerate(calls):
            started = time.perf_counter_ns()
            call()
            row[column] = time.perf_counter_ns() - started
    guest, numpy, bare = np.median(times, axis=0) / 1e3
    return float(guest), float(numpy), float(bare)


def time_ms(call: Callable[[], Any], times: int) -> float:
    """Median milliseconds of `times` calls."""
    elapsed = []
    for _ in range(times):
        started = time.perf_counter_ns()
        call()
        elapsed.append((time.perf_counter_ns() - started) / 1e6)
    return float(np.median(elapsed))


if __name__ == "__main__":
    json.dump(measure(), sys.stdout, indent=1)
    print()
