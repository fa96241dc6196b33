"""The spool: what is promised to survive, what may be dropped, and in which order."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.config import SpoolConfig
from edge_agent.observation.spool import IMPORTANT, ORDINARY, Row, Spool
from edge_agent.observation.spool_writer import SpoolWriter
from servers.kept import Kept

REPOSITORY = Path(__file__).resolve().parents[3]


def make_spool(path: Path, **over: object) -> Spool:
    return Spool(path, SpoolConfig(**over))  # type: ignore[arg-type]


def rows(number: int, *, priority: int = ORDINARY, size: int = 1) -> list[Row]:
    return [Row(priority, json.dumps({"n": n, "pad": "x" * size})) for n in range(number)]


def test_a_batch_keeps_its_id_and_rows_until_it_is_acknowledged(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "spool.db")
    spool.add_records(rows(10))
    first = spool.next_batch(4)
    spool.add_records(rows(10))
    spool.close()
    spool = make_spool(tmp_path / "spool.db")
    assert spool.next_batch(100) == first
    assert first is not None
    spool.acknowledge(first.batch_id, uploaded=4)
    second = spool.next_batch(100)
    assert second is not None and second.batch_id != first.batch_id
    assert len(second.records) == 16
    assert spool.stat()["uploaded"] == 4


def test_past_the_cap_ordinary_records_go_first_and_are_counted(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "spool.db", max_bytes=400_000)
    spool.add_records(rows(200, priority=IMPORTANT, size=200))
    for _ in range(10):
        spool.add_records(rows(500, size=200))
    stat = spool.stat()
    assert stat["bytes"] <= 400_000
    assert stat["dropped"] > 0
    assert stat["records"] + stat["dropped"] == 5200
    with sqlite3.connect(tmp_path / "spool.db") as db:
        (important,) = db.execute("SELECT COUNT(*) FROM record WHERE priority = 2").fetchone()
    assert important == 200


def test_the_file_shrinks_after_the_upload(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "spool.db")
    spool.add_records(rows(2000, size=500))
    full = spool.stat()["bytes"]
    while batch := spool.next_batch(500):
        spool.acknowledge(batch.batch_id, uploaded=500)
    assert spool.stat()["bytes"] < full / 5


def test_waiting_records_are_counted_once_and_never_wrongly(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "spool.db", max_bytes=400_000)
    asked: list[str] = []

    def is_right() -> bool:
        return spool.stat()["records"] == len(spool.export())

    assert is_right()
    spool._db.set_trace_callback(asked.append)
    for _ in range(6):
        spool.add_records(rows(400, size=200))
        assert is_right()
    assert spool.stat()["dropped_full"] > 0
    batch = spool.next_batch(50)
    assert batch is not None and is_right()
    first, second = spool.split(batch.batch_id)
    spool.acknowledge(first, uploaded=25)
    assert is_right()
    spool.dead_letter(second, ["poison"])
    assert is_right()
    spool.dead_letters.requeue()
    assert is_right()
    assert not [sql for sql in asked if "COUNT(*) FROM record" in sql]
    # Another process: a person's command beside the running agent.
    other = make_spool(tmp_path / "spool.db", max_bytes=400_000)
    other.add_records(rows(7))
    other.close()
    assert is_right()


def test_a_corrupt_spool_is_set_aside_and_a_new_one_works(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"this is no database" * 1000)
    spool = make_spool(path)
    spool.add_records(rows(1))
    assert spool.stat()["records"] == 1
    assert path.with_suffix(".corrupt").exists()


def test_an_event_is_noted_once_and_numbered_per_assignment(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "spool.db")
    for state in ("downloading", "verified", "verified"):
        spool.events.add_event("a.1", state, "", "")
    spool.events.add_event("b.1", "downloading", "", "")
    pending = spool.events.pending()
    assert [event["seq"] for event in pending["a.1"]] == [1, 2]
    assert [event["seq"] for event in pending["b.1"]] == [1]
    spool.events.mark_sent("a.1", 2)
    spool.events.add_event("a.1", "trial", "", "")
    assert [event["seq"] for event in spool.events.pending()["a.1"]] == [3]


def test_the_writer_never_blocks_and_counts_what_it_drops(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "spool.db")
    writer = SpoolWriter(spool, SpoolConfig(queue_rows=10))
    for n in range(25):
        writer.put({"n": n})
    writer.flush()
    assert spool.stat()["records"] == 10
    assert spool.stat()["dropped"] == 15


CHILD = """
import sys, time
from pathlib import Path
from edge_agent.config import SpoolConfig
from edge_agent.observation.spool import Spool
from edge_agent.observation.spool_writer import SpoolWriter
from servers.kept import Kept
config = SpoolConfig(flush_interval_s=0.1)
spool = Spool(Path(sys.argv[1]), config)
writer = SpoolWriter(spool, config)
writer.start()
n = 0
while True:
    writer.put({"n": n})
    n += 1
    if n % 50 == 0:
        print(n, flush=True)
    time.sleep(0.001)
"""


@pytest.mark.parametrize("seconds", [0.4, 0.9])
def test_after_kill_9_at_most_one_flush_interval_is_lost(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "spool.db"
    child = Kept([sys.executable, "-c", CHILD, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGKILL)
    output, _ = child.communicate()
    produced = int((output.split() or [b"50"])[-1])
    kept = [row["n"] for row in make_spool(path).export()]
    assert kept == list(range(len(kept))), "a prefix, without gaps"
    # A flush interval at 1,000 records a second, and a generous share for a slow machine.
    assert len(kept) > produced - 400
