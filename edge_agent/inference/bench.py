"""Latency of a release on this device, by execution provider and number of threads."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from edge_agent.config import InferenceConfig
from edge_agent.exceptions import AgentError
from edge_agent.inference.session import ModelSession

MAX_RUNS = 100_000
WARM_UP = 20
OpenSession = Callable[[InferenceConfig], ModelSession]


def compare_providers(
    open_session: OpenSession,
    config: InferenceConfig,
    *,
    providers: Iterable[str],
    threads: Iterable[int],
    runs: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """One row per provider and number of threads, in the order given.

    A provider that falls back is measured as what it became, and its row says so; one that cannot
    be had at all has a row with the reason.

    Args:
        open_session: opens the release under the settings passed to it.
        runs: inferences per row, at most `MAX_RUNS`.
        seconds: when a row stops, whatever its runs; its load comes on top.
    """
    rows = []
    for provider in providers:
        for count in threads:
            chosen = tuple(dict.fromkeys((provider, "cpu")))
            trial = dataclasses.replace(
                config, providers=chosen, intra_op_threads=count, strict=False, cache_entries=0
            )
            row: dict[str, Any] = {"provider": provider, "threads": count}
            started = time.perf_counter()
            try:
                session = open_session(trial)
            except AgentError as error:
                rows.append({**row, "error": f"{error.code}: {error}"})
                continue
            row["load_ms"] = round(1e3 * (time.perf_counter() - started), 1)
            rows.append({**row, **bench_session(session, runs=runs, seconds=seconds)})
    return rows


def bench_session(session: ModelSession, *, runs: int, seconds: float = 60.0) -> dict[str, Any]:
    """Latencies of the bare runtime and of the agent's wrapper, in microseconds, run by turns."""
    inputs = make_inputs(session)
    names = session.output_names
    started = time.perf_counter()
    session.run(inputs)
    first_ms = 1e3 * (time.perf_counter() - started)
    deadline = started + seconds
    for _ in range(min(WARM_UP, runs)):
        if time.perf_counter() < deadline:
            session.run(inputs)
    bare, wrapped = [], []
    for _ in range(min(runs, MAX_RUNS)):
        begun = time.perf_counter_ns()
        session.session.run(names, inputs)
        middle = time.perf_counter_ns()
        session.run(inputs)
        bare.append(middle - begun)
        wrapped.append(time.perf_counter_ns() - middle)
        if time.perf_counter() > deadline:
            break
    return {
        "model": session.manifest.model,
        "version": session.manifest.version,
        "variant": session.manifest.variant,
        "runs": len(bare),
        "first_ms": round(first_ms, 3),
        "bare_us": describe_latencies(np.array(bare)),
        "wrapped_us": describe_latencies(np.array(wrapped)),
        "overhead_us_p50": round(float(np.median(wrapped) - np.median(bare)) / 1e3, 2),
        **session.providers.as_row(),
    }


def make_inputs(session: ModelSession) -> dict[str, Any]:
    """A batch of one of numbers from 0 to 1, zeros where they are whole; free dimensions are 1."""
    generator = np.random.default_rng(0)
    inputs = {}
    for name, (dtype, shape) in session.inputs.items():
        sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
        is_real = dtype.startswith("float")
        values = generator.uniform(0.0, 1.0, sizes) if is_real else np.zeros(sizes)
        inputs[name] = values.astype(dtype)
    return inputs


def describe_latencies(values: np.ndarray[Any, Any]) -> dict[str, float]:
    """Average and percentiles in microseconds of latencies in nanoseconds."""
    p50, p95, p99 = np.percentile(values / 1e3, (50, 95, 99))
    return {
        "avg": round(float(values.mean()) / 1e3, 2),
        "p50": round(float(p50), 2),
        "p95": round(float(p95), 2),
        "p99": round(float(p99), 2),
    }


def format_table(rows: Iterable[dict[str, Any]]) -> str:
    """The rows for a person: what was asked for, what ran, how long it took, what fell back."""
    head = ("provider", "threads", "ran on", "load ms", "first ms", "p50 µs", "p95 µs", "p99 µs")
    lines: list[tuple[str, ...]] = [head]
    notes = []
    for row in rows:
        asked = (row["provider"], str(row["threads"]))
        if "error" in row:
            lines.append((*asked, "nothing", "", "", "", "", ""))
            notes.append(f"{row['provider']}: {row['error']}")
            continue
        nodes = row["nodes"]
        ran = "+".join(
            f"{name} {nodes[name]}" if nodes else name for name in nodes or row["active"]
        )
        times = [f"{row['wrapped_us'][key]:.1f}" for key in ("p50", "p95", "p99")]
        lines.append((*asked, ran, str(row["load_ms"]), str(row["first_ms"]), *times))
        notes += [f"{f['provider']}: {f['kind']}: {f['detail']}" for f in row["fallbacks"]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([*table, *dict.fromkeys(notes)])
