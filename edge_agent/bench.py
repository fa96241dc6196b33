"""Latency of a release on this device."""

import time
from typing import Any

import numpy as np

from edge_agent.selftest import zeros
from edge_agent.session import ModelSession


def bench_session(session: ModelSession, *, runs: int) -> dict[str, Any]:
    """Latencies of the bare runtime and of the agent's wrapper, in microseconds, run by turns."""
    inputs = zeros(session)
    names = session.output_names
    for _ in range(min(50, runs)):
        session.run(inputs)
    bare, wrapped = np.empty(runs), np.empty(runs)
    for index in range(runs):
        started = time.perf_counter_ns()
        session.session.run(names, inputs)
        middle = time.perf_counter_ns()
        session.run(inputs)
        bare[index], wrapped[index] = middle - started, time.perf_counter_ns() - middle
    return {
        "model": session.manifest.model,
        "version": session.manifest.version,
        "variant": session.manifest.variant,
        "runs": runs,
        "bare_us": describe_latencies(bare),
        "wrapped_us": describe_latencies(wrapped),
        "overhead_us_p50": round(float(np.median(wrapped) - np.median(bare)) / 1e3, 2),
        "providers": list(session.providers.active),
    }


def describe_latencies(values: np.ndarray[Any, Any]) -> dict[str, float]:
    """Average and percentiles in microseconds of latencies in nanoseconds."""
    p50, p95, p99 = np.percentile(values / 1e3, (50, 95, 99))
    return {
        "avg": round(float(values.mean()) / 1e3, 2),
        "p50": round(float(p50), 2),
        "p95": round(float(p95), 2),
        "p99": round(float(p99), 2),
    }
