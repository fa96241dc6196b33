"""Durable records per second: the agent's spool beside bare SQLite and a bare log file."""

import json
import os
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.agent.figures import Figure
from edge_agent.config import SpoolConfig
from edge_agent.observation.spool import Spool
from edge_agent.observation.spool_writer import SpoolWriter

ROWS = 40_960
ROUNDS = 5
CONFIG = SpoolConfig(queue_rows=ROWS, max_bytes=1 << 30)
"""The agent's own grouping; room for all rows, so that nothing is dropped."""


def measure(folder: Path) -> list[Figure]:
    """Rows per second, each commit synced to the disk; the three take turns."""
    rates: dict[str, list[float]] = {"spool": [], "sqlite": [], "log": []}
    for number in range(ROUNDS):
        home = folder / str(number)
        home.mkdir()
        rates["spool"].append(rate(write_spool, home))
        rates["sqlite"].append(rate(write_sqlite, home))
        rates["log"].append(rate(write_log, home))
    found = {name: statistics.median(values) for name, values in rates.items()}
    return [
        Figure(
            "spool_rows_per_s",
            found["spool"],
            "rows/s",
            f"bare SQLite {found['sqlite']:,.0f}, appended file with fdatasync {found['log']:,.0f}"
            f"; a burst, in commits of {CONFIG.commit_rows}",
            50_000,
            is_more_better=True,
        )
    ]


def rate(write: Any, home: Path) -> float:
    started = time.perf_counter()
    write(home)
    return ROWS / (time.perf_counter() - started)


def make_record(number: int) -> dict[str, Any]:
    """What `aviary-agent run` notes of one inference."""
    return {
        "timestamp": 1_790_000_000.123 + number,
        "model": "digits-cnn",
        "model_version": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "provider": "CPUExecutionProvider",
        "features": [0.12345678, 0.98765432],
        "latency_ms": 0.1234,
        "class_id": number % 10,
        "confidence": 0.987654,
    }


def write_spool(home: Path) -> None:
    """The agent's own path: queued as dicts, encoded and committed in groups."""
    spool = Spool(home / "spool.db", CONFIG)
    writer = SpoolWriter(spool, CONFIG)
    for number in range(ROWS):
        writer.put(make_record(number))
    writer.flush()
    if spool.stat()["records"] != ROWS:
        raise RuntimeError(f"expected {ROWS} rows on the disk, got {spool.stat()}")
    spool.close()


def write_sqlite(home: Path) -> None:
    """The least that SQLite can do for the same promise: encoded text into one table."""
    db = sqlite3.connect(home / "bare.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE record (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
    for group in groups():
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO record (body) VALUES (?)", [(text,) for text in group])
        db.execute("COMMIT")
    db.close()


def write_log(home: Path) -> None:
    """The limit of the disk: the same text appended to a file, synced after each group."""
    descriptor = os.open(home / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    for group in groups():
        os.write(descriptor, "\n".join(group).encode())
        os.fdatasync(descriptor)
    os.close(descriptor)


def groups() -> Any:
    size = CONFIG.commit_rows
    for start in range(0, ROWS, size):
        numbers = range(start, min(start + size, ROWS))
        yield [json.dumps(make_record(n), separators=(",", ":")) for n in numbers]
