"""`make soak-ingest`: records and summaries while web server, workers and database are killed.

Every batch and summary is sent until it is answered, some again after that, summaries in several
revisions in any order. In the end each window must hold exactly what was sent, in the windows of
devices and in the roll-ups. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

DEVICES = 200
CONNECTIONS = 32
SUMMARIES_A_CALL = 10
HOURS = 120
"""Windows of a device that summaries are told of, from three hours ago on."""
RECORDS_OF_ONE = 3_600
REPEATED = 0.03
ANSWER_SECONDS = 30.0


def main() -> int:
    """Runs on the servers that the environment names, on an empty database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--summaries", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ["LOG_LEVEL"] = "CRITICAL"
    os.environ["AVIARY_QUOTA_INGEST"] = "100000000"
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    return soak(arguments)


@dataclass
class Told:
    """What is under way, and what came of it."""

    calls: list[tuple[str, bytes, Any]]
    """Path, body and device of each call, the next one last."""
    batches: int = 0
    records: int = 0
    summaries: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    answered: int = 0


def soak(arguments: argparse.Namespace) -> int:
    """0 when every window holds what was sent."""
    from benchmarks.ingest.fleet import RECORDS, make_devices, make_release
    from benchmarks.ingest.processes import Processes

    chance = random.Random(arguments.seed)
    senders = make_devices(make_release(), DEVICES)
    hour = int(time.time() // 3600) * 3600
    batches = -(-arguments.records // RECORDS)
    calls, raw = _make_batches(senders, batches, chance, hour)
    newest: dict[tuple[str, int], int] = {}
    more, summaries = _make_summaries(senders, arguments.summaries, chance, hour, newest)
    calls += more
    chance.shuffle(calls)
    told = Told(calls)
    started = time.monotonic()
    with Processes(arguments.seed) as processes:
        killed = asyncio.run(_run(told, processes, len(calls), arguments.kills))
        sent_s = time.monotonic() - started
        processes.drain()
    lost, doubled = _compare(raw, newest, hour)
    figures = {
        "soak_records": batches * RECORDS,
        "soak_summaries": summaries,
        "soak_kills": sum(killed.values()),
        **{f"soak_kills_{name}": number for name, number in sorted(killed.items())},
        "soak_retries": sum(told.retries.values()),
        "soak_lost": lost,
        "soak_doubled": doubled,
    }
    print(f"{sent_s:.0f} s to send, {time.monotonic() - started:.0f} s in all; retries of", end=" ")
    print(dict(told.retries))
    print(json.dumps(figures))
    return int(lost > 0 or doubled > 0)


def _make_batches(
    senders: list[Any], number: int, chance: random.Random, hour: int
) -> tuple[list[tuple[str, bytes, Any]], Counter[str]]:
    """Calls, some of them twice, and records by device."""
    from benchmarks.ingest.fleet import RECORDS, make_body, make_records

    texts = [b",".join(make_records(seed, hour)) for seed in range(16)]
    calls, raw = [], Counter[str]()
    for at in range(number):
        sender = senders[at % len(senders)]
        call = ("/api/ingest", make_body(texts[at % 16], sender.device_id, f"soak.{at}"), sender)
        calls += [call] * (1 + (chance.random() < REPEATED))
        raw[sender.device_id] += RECORDS
    return calls, raw


def _make_summaries(
    senders: list[Any],
    number: int,
    chance: random.Random,
    hour: int,
    newest: dict[tuple[str, int], int],
) -> tuple[list[tuple[str, bytes, Any]], int]:
    """Calls of several summaries each, and how many summaries they hold, repeated ones included."""
    calls, made = [], 0
    while made < number:
        sender = chance.choice(senders)
        rows = []
        for ago in chance.sample(range(3, 3 + HOURS), SUMMARIES_A_CALL):
            revision = chance.randint(1, 1_000)
            start = hour - 3_600 * ago
            key = (sender.device_id, start)
            newest[key] = max(newest.get(key, 0), revision)
            rows.append(_summary(start, revision))
        body = json.dumps({"source": "soak", "summaries": rows}, separators=(",", ":")).encode()
        times = 1 + (chance.random() < REPEATED)
        calls += [("/api/summaries", body, sender)] * times
        made += times * len(rows)
    return calls, made


def _summary(start: int, revision: int) -> dict[str, Any]:
    """Whose `n` follows from its revision."""
    n = RECORDS_OF_ONE + revision
    return {
        "model": "bench-cnn", "model_version": "b" * 64, "start": start, "seconds": 3_600,
        "revision": revision, "baseline": "a" * 64,
        "counts": {
            "n": n, "latency_n": n, "latency_sum": 3.0 * n, "latency_sum_squares": 9.5 * n,
            "latency": {"20": n}, "confidence_n": n, "confidence_sum": 0.5 * n,
            "confidence_sum_squares": 0.3 * n, "confidence": [0] * 32 + [n], "classes": [n],
            "features": {"input_mean": [n]},
        },
    }  # fmt: skip


async def _run(told: Told, processes: Any, total: int, kills: int) -> Counter[str]:
    """Sends everything; a process is killed whenever another share is answered."""
    killed: Counter[str] = Counter()

    async def kill() -> None:
        for number in range(kills):
            while told.answered < total * (number + 1) // (kills + 2):
                await asyncio.sleep(0.02)
            killed[await asyncio.to_thread(processes.kill_next)] += 1

    senders = [_send(told, processes) for _ in range(CONNECTIONS)]
    await asyncio.gather(kill(), *senders)
    return killed


async def _send(told: Told, processes: Any) -> None:
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while told.calls:
        path, body, sender = told.calls.pop()
        while True:
            try:
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", processes.port)
                ask = _ask(*connection, path, body, sender)
                status = await asyncio.wait_for(ask, ANSWER_SECONDS)
                if status == 200:
                    break
                told.retries[str(status)] += 1
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                told.retries[type(error).__name__] += 1
                if connection is not None:
                    connection[1].close()
                connection = None
            await asyncio.sleep(0.1)
        told.answered += 1
    if connection is not None:
        connection[1].close()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes, sender: Any
) -> int:
    from benchmarks.ingest.load import make_head

    writer.write(make_head(path, sender, len(body)) + body)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
    return int(head[9:12])


def _compare(raw: Counter[str], newest: dict[tuple[str, int], int], hour: int) -> tuple[int, int]:
    """Records that are missing and records that are too many, in windows and in roll-ups."""
    from ingest.models import RollUp, Window
    from ingest.rules.clusters import unpack

    expected: Counter[tuple[str, int]] = Counter()
    for device, records in raw.items():
        expected[device, hour] += records
    for (device, start), revision in newest.items():
        expected[device, start] += RECORDS_OF_ONE + revision
    found: Counter[tuple[str, int]] = Counter()
    for device, at, n in Window.objects.values_list("device__device_id", "start", "n"):
        found[device, int(at.timestamp())] += n
    lost, doubled = (sum((a - b).values()) for a, b in ((expected, found), (found, expected)))
    by_hour: Counter[int] = Counter()
    for (_, start), n in expected.items():
        by_hour[start] += n
    rolled: Counter[int] = Counter()
    for at, data in RollUp.objects.values_list("start", "data"):
        rolled[int(at.timestamp())] += unpack(bytes(data)).total("n")
    lost += sum((by_hour - rolled).values())
    doubled += sum((rolled - by_hour).values())
    return lost, doubled


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
