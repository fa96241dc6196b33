"""Raw records: acknowledged and durable, then counted, beside COPY of the same bytes."""

from __future__ import annotations

import statistics
import time

from django.db import connection
from django.db.models import Sum

from benchmarks.agent.figures import Figure
from benchmarks.ingest.fleet import RECORDS, Sender, make_body, make_records
from benchmarks.ingest.load import send_all
from benchmarks.ingest.server import serving
from ingest.models import InboxBatch, Window
from ingest.services.aggregation import aggregate_batches

SECONDS = 8.0
ROUNDS = 3
COPY_ROWS = 200_000


def measure(senders: list[Sender]) -> list[Figure]:
    """Three rounds of each, taking turns; medians.

    Raises:
        RuntimeError: a record that was acknowledged is counted never or twice.
    """
    texts = [make_records(seed) for seed in range(16)]
    joined = [b",".join(rows) for rows in texts]
    copied, taken, counted = [], [], []
    acknowledged = 0
    with serving() as address:
        for turn in range(ROUNDS):
            copied.append(copy_rate(texts))

            def make(sender: Sender, number: int, turn: int = turn) -> bytes:
                text = joined[number % len(joined)]
                return make_body(text, sender.device_id, f"{turn}.{number}.{sender.device_id}")

            load = send_all(address, "/api/ingest", senders, make, seconds=SECONDS)
            if set(load.answers) != {200}:
                raise RuntimeError(f"Not every batch was taken: {load.answers}")
            acknowledged += load.answers[200] * RECORDS
            taken.append(load.rate() * RECORDS)
            counted.append(count_rate())
    found = Window.objects.aggregate(n=Sum("n"))["n"]
    if found != acknowledged:
        raise RuntimeError(f"{acknowledged} records were acknowledged and {found} are counted")
    copy, intake, count = map(statistics.median, (copied, taken, counted))
    return [
        Figure("copy_records_per_s", copy, "records/s", "PostgreSQL's COPY, one row a record"),
        Figure(
            "ingest_raw_records_per_s",
            intake,
            "records/s",
            f"acknowledged and durable, {RECORDS} in a batch, over HTTP, two processes",
        ),
        Figure("ingest_raw_ratio_copy", intake / copy, "", "of COPY", 0.5, is_more_better=True),
        Figure("count_records_per_s", count, "records/s", "into windows, one process"),
        Figure("count_ratio_intake", count / intake, "", "of intake", 1.0, is_more_better=True),
    ]


def copy_rate(texts: list[list[bytes]]) -> float:
    """Rows a second of one COPY of the records' own text, committed to the disk."""
    rows = [row + b"\n" for text in texts for row in text]
    block = b"".join(rows)
    repeats = COPY_ROWS // len(rows)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS bench_copy (body text)")
        cursor.execute("TRUNCATE bench_copy")
        started = time.perf_counter()
        with cursor.copy("COPY bench_copy FROM STDIN") as stream:
            for _ in range(repeats):
                stream.write(block)
        seconds = time.perf_counter() - started
    return repeats * len(rows) / seconds


def count_rate() -> float:
    """Records a second that one process counts of what waits."""
    waiting = InboxBatch.objects.pending().aggregate(n=Sum("accepted"))["n"]
    started = time.perf_counter()
    while aggregate_batches(limit=500):
        pass
    return float(waiting) / (time.perf_counter() - started)
