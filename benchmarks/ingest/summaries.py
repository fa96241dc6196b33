"""Counts that devices made: acknowledged, durable and counted."""

from __future__ import annotations

import json
import random
import statistics
import time

from django.conf import settings
from django.db.models import Sum

from benchmarks.agent.figures import Figure
from benchmarks.ingest.fleet import CLASSES, Sender
from benchmarks.ingest.load import send_all
from benchmarks.ingest.server import serving
from ingest.models import Summary, Window
from ingest.services.summaries import count_summaries

SECONDS = 8.0
ROUNDS = 3
N = 3_600
"""Records of one summary: one a second for an hour."""


def measure(senders: list[Sender]) -> list[Figure]:
    """Three rounds; medians.

    Raises:
        RuntimeError: the windows do not hold what the newest revisions say.
    """
    Window.objects.all().delete()
    bodies = [_counts(seed) for seed in range(16)]
    seconds = settings.AVIARY_WINDOW_SECONDS
    start = int(time.time() // seconds) * seconds
    taken, counted = [], []
    with serving() as address:
        for turn in range(ROUNDS):

            def make(sender: Sender, number: int, turn: int = turn) -> bytes:
                # A window of its own for each call of a round; the next round revises them.
                begin = start - seconds * (number % 100)
                text = bodies[number % len(bodies)]
                return (
                    f'{{"source":"bench","summaries":[{{"model":"bench-cnn","model_version":'
                    f'"{"b" * 64}","start":{begin},"seconds":{seconds},"revision":{turn + 1},'
                    f'"baseline":"{"a" * 64}","counts":{text}}}]}}'
                ).encode()

            load = send_all(address, "/api/summaries", senders, make, seconds=SECONDS)
            if set(load.answers) != {200}:
                raise RuntimeError(f"Not every summary was taken: {load.answers}")
            taken.append(load.rate())
            counted.append(_count_rate())
    told, found = Summary.objects.count() * N, Window.objects.aggregate(n=Sum("n"))["n"]
    if told != found:
        raise RuntimeError(f"The newest revisions have {told} records and the windows {found}")
    intake, count = map(statistics.median, (taken, counted))
    both = 1 / (1 / intake + 1 / count)
    return [
        Figure(
            "ingest_summaries_per_s", intake, "/s",
            f"of {N:,} records each, acknowledged and durable, over HTTP", 4_000,
            is_more_better=True,
        ),
        Figure("count_summaries_per_s", count, "/s", "into windows, one process"),
        Figure("summaries_both_per_s", both, "/s", "taken, then counted, on the same cores"),
    ]  # fmt: skip


def _count_rate() -> float:
    waiting = Summary.objects.filter(is_pending=True).count()
    started = time.perf_counter()
    while count_summaries():
        pass
    return waiting / (time.perf_counter() - started)


def _counts(seed: int) -> str:
    draw = random.Random(seed)

    def spread(width: int, total: int) -> list[int]:
        row = [0] * width
        for _ in range(100):
            row[min(width - 1, int(draw.betavariate(3, 3) * width))] += total // 100
        return row

    latency = {str(20 + at): count for at, count in enumerate(spread(30, N)) if count}
    confidence = spread(64, N)
    features = {name: spread(64, N) for name in ("input_mean", "input_std")}
    return json.dumps(
        {
            "n": N, "errors": 0, "nonfinite": 0, "latency_n": N, "latency_sum": 3.0 * N,
            "latency_sum_squares": 9.5 * N, "latency": latency, "confidence_n": N,
            "confidence_sum": 0.5 * N, "confidence_sum_squares": 0.3 * N,
            "confidence": confidence, "classes": spread(CLASSES, N), "features": features,
        },
        separators=(",", ":"),
    )  # fmt: skip
