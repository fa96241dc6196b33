"""Runs peers and trials in children of limited memory and time, since both bring processes down."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.zoo.product import PEER_SECONDS, Made
from registry.limited_process.parent import MemoryWatch, end_group, start_process

MEMORY_BYTES = 6 * 1024**3
TRIAL_SECONDS = 120


def run_peer(peer: str, model: Path, calibration: Path, folder: Path) -> Made:
    """What a peer makes of the model."""
    folder.mkdir(parents=True)
    shutil.copyfile(model, folder / "model.onnx")
    shutil.copyfile(calibration, folder / "calibration.npz")
    ended = _run("benchmarks.zoo.peers", folder, {"peer": peer}, PEER_SECONDS)
    result, reason = folder / "result.onnx", folder / "reason.txt"
    if result.exists() and not ended:
        return Made("done", "", result)
    return Made("failed", reason.read_text() if reason.exists() else ended)


def try_variants(job: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """The judge's row of each variant; one that ends the process has its end as `error`."""
    folder.mkdir(parents=True)
    rows: dict[str, dict[str, Any]] = {}
    waiting = dict(job["variants"])
    while waiting:
        (folder / "begun.txt").unlink(missing_ok=True)
        (folder / "results.jsonl").unlink(missing_ok=True)
        ended = _run("benchmarks.zoo.trial", folder, {**job, "variants": waiting}, TRIAL_SECONDS)
        for row in _lines(folder / "results.jsonl"):
            rows[row["name"]] = row
        begun = (folder / "begun.txt").read_text().split() if ended else list(waiting)
        if ended and not begun:
            return {name: {"error": f"source: {ended}"} for name in waiting}
        for name in begun:
            rows.setdefault(name, {"name": name, "error": ended or "no answer"})
        waiting = {name: path for name, path in waiting.items() if name not in rows}
    return rows


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _run(module: str, folder: Path, job: dict[str, Any], seconds: int) -> str:
    """How the child ended, in words; empty when well."""
    limits = {"memory_bytes": MEMORY_BYTES, "cpu_seconds": seconds, "parent": os.getpid()}
    (folder / "job.json").write_text(json.dumps({**job, **limits}))
    (folder / "begun.txt").touch()
    with (folder / "stderr.txt").open("wb") as stderr:
        process = start_process(
            module, folder, folder=folder, threads=1, stdout=subprocess.DEVNULL, stderr=stderr
        )
        try:
            with MemoryWatch(process, MEMORY_BYTES) as watch:
                code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"took longer than {seconds} s"
        finally:
            end_group(process, is_gentle=False)
    if watch.is_exceeded:
        return f"needs more than {MEMORY_BYTES >> 30} GiB"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with {code}" if code else ""
