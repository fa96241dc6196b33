"""What the C++ program costs: from its start to its first answer, and its memory.

`cpp_first_inference_ms`: from before the process is made until its first line of JSON has arrived
here, so the dynamic loader, the runtime's library, hashing and loading the model and one run are
all in it; the median of `RUNS`. `cpp_first_inference_ms_min` is the least of them: what a busy
machine leaves of it. `process_ms` is the same for a program that only prints, run by turns.
`cpp_cpu_ms`: the processor time of the whole process (median), which waiting for a core does not
stretch. `cpp_rss_mb`: the peak that the process reads of itself.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "demo" / "data" / "digits-cnn-1.1.0.onnx"
RUNS = 40


def measure() -> dict[str, float]:
    """The figures named above, in milliseconds and MiB, of the demonstration's classifier."""
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        digest = hashlib.sha256(MODEL.read_bytes()).hexdigest()
        command = [f"{folder}/edge_infer", str(MODEL), "--sha256", digest]
        for _ in range(3):
            run(command)
        times = np.empty((RUNS, 3))
        for row in times:
            before_ms = read_children_cpu_ms()
            row[0], lines = run(command)
            row[2] = read_children_cpu_ms() - before_ms
            row[1], _ = run(["/bin/echo", "ready"])
        summary = json.loads(lines[-1])
    first_ms, process_ms, cpu_ms = np.median(times, axis=0)
    return {
        "cpp_first_inference_ms": round(float(first_ms), 2),
        "cpp_first_inference_ms_min": round(float(times[:, 0].min()), 2),
        "process_ms": round(float(process_ms), 2),
        "cpp_cpu_ms": round(float(cpu_ms), 2),
        "cpp_load_ms": summary["load_ms"],
        "cpp_rss_mb": round(summary["peak_rss_kb"] / 1024, 1),
    }


def build(folder: Path) -> None:
    """Builds the program as `make native` does. Raises CalledProcessError."""
    command = ["make", "-C", str(ROOT / "edge_agent/native"), f"PYTHON={sys.executable}"]
    subprocess.run([*command, f"OUT={folder}"], check=True, capture_output=True, timeout=300)


def run(command: list[str]) -> tuple[float, list[str]]:
    """Milliseconds until the first line of output, and all lines."""
    started = time.perf_counter_ns()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        elapsed_ms = (time.perf_counter_ns() - started) / 1e6
        lines = [first, *process.stdout]
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return elapsed_ms, lines


def read_children_cpu_ms() -> float:
    """Processor time of all ended children, in milliseconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1e3


if __name__ == "__main__":
    json.dump(measure(), sys.stdout, indent=1)
    print()
