"""What the agent adds to one inference, over the bare runtime, measured by turns."""

import gc
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agent.figures import Figure
from edge_agent.config import InferenceConfig
from edge_agent.inference.session import ModelSession
from edge_agent.releases.trust import parse_manifest
from tests.edge_agent.publisher import make_manifest, make_model

RUNS = 20_000
WARM_UP = 500


def measure(folder: Path) -> list[Figure]:
    """Medians of bare runs, wrapped runs, whole `infer` calls and cache hits."""
    plain, tensor = open_session(folder, InferenceConfig()), make_input()
    cached = open_session(folder, InferenceConfig(cache_entries=64))
    names, feed = plain.output_names, {plain.input_names[0]: tensor}
    cached.infer(tensor)
    times = time_by_turns(
        {
            "bare": lambda: plain.session.run(names, feed),
            "wrapped": lambda: plain.run(feed),
            "infer": lambda: plain.infer(tensor).scores,
            "hit": lambda: cached.infer(tensor),
        }
    )
    assert cached.cache is not None and cached.cache.hits >= RUNS
    bare = times["bare"]
    return [
        Figure(
            "wrapper_overhead_us_p50",
            times["wrapped"] - bare,
            "µs",
            f"bare session.run {bare:.1f} µs",
            5.0,
        ),
        Figure(
            "infer_overhead_us_p50",
            times["infer"] - bare,
            "µs",
            "the same, with the scores read: top-k, labels, confidence",
        ),
        Figure("cache_hit_us_p50", times["hit"], "µs", f"bare session.run {bare:.1f} µs", 3.0),
    ]


def make_input() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).uniform(0.1, 2.0, size=(1, 4)).astype(np.float32)


def open_session(folder: Path, config: InferenceConfig) -> ModelSession:
    path = folder / "model.onnx"
    path.write_bytes(make_model())
    document = make_manifest({"model.onnx": ("model", path.read_bytes())})
    manifest = parse_manifest(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    return ModelSession(path, manifest, config)


def time_by_turns(calls: dict[str, Any]) -> dict[str, float]:
    """Median microseconds of each call; the calls take turns, so that noise meets all alike."""
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    times = {name: np.empty(RUNS) for name in calls}
    gc.collect()
    gc.disable()
    try:
        clock = time.perf_counter_ns
        turns = list(calls.items())
        for index in range(RUNS):
            # Whoever comes after a cache hit finds the runtime's memory cooler: nobody always does.
            for name, call in random.sample(turns, len(turns)):
                started = clock()
                call()
                times[name][index] = clock() - started
        # What the clock and the loop cost by themselves is no cost of the calls.
        empty = np.empty(RUNS)
        nothing: Any = lambda: None  # noqa: E731
        for index in range(RUNS):
            started = clock()
            nothing()
            empty[index] = clock() - started
    finally:
        gc.enable()
    floor = float(np.median(empty))
    return {name: (float(np.median(row)) - floor) / 1e3 for name, row in times.items()}
