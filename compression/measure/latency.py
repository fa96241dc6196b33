"""Latency of models, run in turns so that a noisy neighbour hits all of them alike."""

import time

import numpy as np
from numpy.typing import NDArray

from compression.measure.models import OpenModel
from compression.measure.samples import Samples

WARM_UP_RUNS = 10
MIN_ROUNDS = 10
MAX_ROUNDS = 2000
# Fast models are run for so long at least: 120 runs of 0.1 ms would be over in one hiccup.
MIN_SECONDS = 1.5


def measure_latency(
    models: dict[str, OpenModel],
    samples: Samples,
    *,
    threads: int,
    batch: int = 1,
    runs: int = 120,
    seconds: float = 20.0,
) -> dict[str, dict[str, float]]:
    """p50, p95 and p99 in milliseconds and the number of runs, by model.

    Args:
        models: by name; the first is the control the others are compared with.
        threads: intra-op threads of each session.
        batch: rows per run where the graph leaves the batch free.
        runs: wanted runs of each model; fast models get more, up to `MAX_ROUNDS`.
        seconds: no new round starts after this time; at least ten rounds are made.
    """
    sessions = {name: model.session(threads) for name, model in models.items()}
    feed = samples.feed(batch)
    for session in sessions.values():
        for _ in range(WARM_UP_RUNS):
            session.run(None, feed)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    order = list(sessions.items())
    started = time.monotonic()
    for round_index in range(max(runs, MAX_ROUNDS)):
        spent = time.monotonic() - started
        is_enough = round_index >= runs and spent > min(MIN_SECONDS, seconds)
        if is_enough or (round_index >= MIN_ROUNDS and spent > seconds):
            break
        # Each starts a round in its turn, so that none always finds the other's caches.
        first = round_index % len(order)
        for name, session in order[first:] + order[:first]:
            before = time.perf_counter()
            session.run(None, feed)
            times[name].append((time.perf_counter() - before) * 1000.0)
    return {name: _percentiles(np.asarray(values)) for name, values in times.items()}


def _percentiles(values: NDArray) -> dict[str, float]:
    p50, p95, p99 = (float(value) for value in np.percentile(values, [50, 95, 99]))
    return {
        "p50_ms": round(p50, 4),
        "p95_ms": round(p95, 4),
        "p99_ms": round(p99, 4),
        "runs": len(values),
    }
