"""`make bench-agent`: a table, then one last line of JSON with every figure by its key."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.agent import deltas, downloads, inference, processes, spooling
from benchmarks.agent.figures import Figure, print_table

PARTS: dict[str, Callable[[Path], list[Figure]]] = {
    "processes": processes.measure,
    "inference": inference.measure,
    "spooling": spooling.measure,
    "downloads": downloads.measure,
    "deltas": deltas.measure,
}


def measure_guest() -> list[Figure]:
    from benchmarks.agent import wasm

    found = wasm.measure()
    return [
        Figure("wasm_ready_ms", found["wasm_ready_ms"], "ms", "a new instance of the guest", 1.0),
        Figure(
            "wasm_added_us_p50",
            found["wasm_added_us_p50"],
            "µs",
            f"over the same work in numpy, {found['numpy_us_p50']} µs",
        ),
    ]


def measure_native() -> list[Figure]:
    from benchmarks.agent import cpp

    found = cpp.measure()
    beside = (
        f"from exec; least {found['cpp_first_inference_ms_min']} ms, "
        f"{found['cpp_cpu_ms']} ms of processor time"
    )
    return [
        Figure("cpp_first_inference_ms", found["cpp_first_inference_ms"], "ms", beside, 40.0),
        Figure("cpp_rss_mb", found["cpp_rss_mb"], "MB", "peak of the same process"),
    ]


def main(wanted: list[str]) -> int:
    """Measures all parts, or those named; 0 when every one could be measured."""
    parts = {**PARTS, "wasm": lambda _: measure_guest(), "cpp": lambda _: measure_native()}
    unknown = set(wanted) - set(parts)
    if unknown:
        print(f"unknown parts {sorted(unknown)}; there are {sorted(parts)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    failed = {}
    # On the disk of the checkout: /tmp may be memory, where syncing costs nothing.
    var = Path("var")
    var.mkdir(exist_ok=True)
    for name in wanted or parts:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="bench-agent-", dir=var) as folder:
            try:
                figures += parts[name](Path(folder).resolve())
            except Exception as error:  # noqa: BLE001 the other parts are still worth having
                failed[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    print_table(figures)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 1.5 * cores:
        print(f"load {load:.1f} on {cores} cores: others were busy, times are too long")
    for name, reason in failed.items():
        print(f"{name} could not be measured: {reason}", file=sys.stderr)
    print(json.dumps({figure.key: round(figure.value, 4) for figure in figures}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
