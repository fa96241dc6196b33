"""The real `aviary-agent run` as a process: its memory, and how soon it infers after a start."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.agent.figures import Figure
from tests.edge_agent.publisher import DEVICE, MODEL, Server, make_model

REPOSITORY = Path(__file__).resolve().parents[2]
IDLE_SECONDS = 6.0
STARTS = 5
CONFIG = """\
[agent]
device_id = "{device}"
server_url = "{url}"
home = "state"
models = ["{model}"]
join_token = "join"
log_level = "WARNING"

[source]
path = "inputs.npz"
rate_per_s = 20.0
"""


def measure(folder: Path) -> list[Figure]:
    """Resident memory without and with a tiny model, and start to first inference."""
    server = Server()
    try:
        prepare_home(folder, server.url)
        call_agent(folder, "enroll")
        core_mb = measure_idle(folder)
        server.publish(make_model())
        call_agent(folder, "sync")
        tiny_mb = measure_idle(folder)
        first_ms = [measure_first_inference(folder, server) for _ in range(STARTS)]
    finally:
        server.close()
    bare_mb = rss_of_code("pass")
    runtime_mb = rss_of_code("import numpy, onnxruntime")
    bare_ms = statistics.median(
        time_command([sys.executable, "-c", "import numpy, onnxruntime"]) for _ in range(STARTS)
    )
    first = statistics.median(first_ms)
    return [
        Figure("rss_core_mb", core_mb, "MB", f"bare Python {bare_mb:.1f} MB", 30.0),
        Figure(
            "rss_tiny_model_mb",
            tiny_mb,
            "MB",
            f"Python with numpy and onnxruntime alone {runtime_mb:.1f} MB",
            75.0,
        ),
        Figure(
            "first_inference_ms",
            first,
            "ms",
            f"Python that only imports numpy and onnxruntime {bare_ms:.0f} ms",
            400.0,
        ),
    ]


def prepare_home(folder: Path, url: str) -> None:
    text = CONFIG.format(device=DEVICE, url=url, model=MODEL)
    (folder / "agent.toml").write_text(text)
    rows = np.random.default_rng(0).uniform(0.1, 2.0, size=(64, 4)).astype(np.float32)
    np.savez(folder / "inputs.npz", x=rows)


def agent_command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "edge_agent", "--config", str(folder / "agent.toml"), *words]


def call_agent(folder: Path, *words: str) -> None:
    answer = subprocess.run(
        agent_command(folder, *words), cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    if answer.returncode:
        raise RuntimeError(f"aviary-agent {words}: {answer.stderr[-500:]}")


def start_agent(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(agent_command(folder, "run"), cwd=REPOSITORY, stdout=subprocess.DEVNULL)


def stop_agent(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(timeout=30)


def measure_idle(folder: Path) -> float:
    """VmRSS of `run` after it has polled, uploaded and idled for a while."""
    process = start_agent(folder)
    try:
        time.sleep(IDLE_SECONDS)
        return read_rss_mb(process.pid)
    finally:
        stop_agent(process)


def read_rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def rss_of_code(code: str) -> float:
    """VmRSS of a Python that has run `code` and sleeps."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        return read_rss_mb(process.pid)
    finally:
        process.communicate(b"\n")


def time_command(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=REPOSITORY)
    return 1000 * (time.perf_counter() - started)


def measure_first_inference(folder: Path, server: Server) -> float:
    """Milliseconds from exec to the end of the first inference, by the record's own stamp.

    A record carries the wall time of its inference's start and its latency; both processes read the
    same clock.
    """
    server.batches.clear()
    os.sync()
    started = time.time()
    process = start_agent(folder)
    try:
        deadline = time.monotonic() + 30
        while not server.batches:
            if time.monotonic() > deadline:
                raise RuntimeError("no record arrived within 30 s")
            time.sleep(0.05)
    finally:
        stop_agent(process)
    records = [record for batch in server.batches.values() for record in batch]
    fresh = [row for row in records if float(row["timestamp"]) >= started - 0.001]
    first = min(fresh, key=lambda row: float(row["timestamp"]))
    return 1000 * (float(first["timestamp"]) - started) + float(first["latency_ms"])
