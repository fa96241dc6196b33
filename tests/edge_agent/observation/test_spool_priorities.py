"""What the spool lets go, in which order, what it sets aside, and how large it may be."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.agent import Agent
from edge_agent.clock import Clock, read_system_clock
from edge_agent.config import SpoolConfig
from edge_agent.exceptions import AnswerError
from edge_agent.observation.spool import IMPORTANT, ORDINARY, UNSURE, Row, Spool
from edge_agent.observation.spool_writer import SpoolWriter
from edge_agent.observation.upload import Uploader
from tests.edge_agent.publisher import Server


class SimulatedClock:
    """A boot's clock that moves when told; the wall clock can be set apart from it."""

    def __init__(self, boot_id: str = "boot-1", wall: float = 1_790_000_000.0) -> None:
        self.elapsed = 0.0
        self.wall_offset = wall
        self.clock = Clock(boot_id, lambda: self.elapsed, lambda: self.wall_offset + self.elapsed)


def make_spool(path: Path, clock: Clock | None = None, **over: Any) -> Spool:
    return Spool(path / "spool.db", SpoolConfig(**over), clock)


def rows(number: int, *, priority: int = ORDINARY, size: int = 1) -> list[Row]:
    return [Row(priority, json.dumps({"n": n, "pad": "x" * size})) for n in range(number)]


def kept_by_priority(folder: Path) -> dict[int, int]:
    with sqlite3.connect(folder / "spool.db") as db:
        return dict(db.execute("SELECT priority, COUNT(*) FROM record GROUP BY priority"))


def test_ordinary_records_go_before_unsure_ones_and_those_before_failures(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, max_bytes=600_000)
    spool.add_records(rows(300, priority=IMPORTANT, size=200))
    spool.add_records(rows(300, priority=UNSURE, size=200))
    for _ in range(6):
        spool.add_records(rows(500, size=200))
    kept = kept_by_priority(tmp_path)
    assert (kept[IMPORTANT], kept[UNSURE]) == (300, 300)
    for _ in range(6):
        spool.add_records(rows(500, priority=UNSURE, size=200))
    kept = kept_by_priority(tmp_path)
    assert kept[IMPORTANT] == 300
    assert ORDINARY not in kept
    stat = spool.stat()
    assert stat["records"] + stat["dropped_full"] == 600 + 3000 + 3000
    assert stat["dropped"] == stat["dropped_full"]


def test_of_one_priority_the_newest_stay(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, max_bytes=400_000)
    for start in range(0, 5000, 500):
        spool.add_records([Row(ORDINARY, json.dumps({"n": start + n})) for n in range(500)])
    for start in range(5000, 20_000, 500):
        spool.add_records([Row(ORDINARY, json.dumps({"n": start + n})) for n in range(500)])
    kept = [row["n"] for row in spool.export()]
    assert kept == list(range(20_000 - len(kept), 20_000))


def test_failures_go_up_first(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    spool.add_records(rows(5))
    spool.add_records([Row(IMPORTANT, '{"n":100}'), Row(UNSURE, '{"n":50}')])
    sent = []
    while batch := spool.next_batch(1):
        sent += [record["n"] for record in batch.records]
        spool.acknowledge(batch.batch_id, uploaded=1)
    assert sent == [100, 50, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("max_bytes", [400_000, 4_000_000])
def test_the_files_on_the_disk_stay_within_the_cap_log_included(
    tmp_path: Path, max_bytes: int
) -> None:
    spool = make_spool(tmp_path, max_bytes=max_bytes)
    largest = 0
    for number in range(max_bytes // 20_000):
        spool.add_records(rows(200, priority=number % 3, size=300))
        if number % 5 == 0 and (batch := spool.next_batch(50)):
            spool.acknowledge(batch.batch_id, uploaded=50)
        largest = max(largest, sum(p.stat().st_size for p in tmp_path.iterdir()))
    assert spool.stat()["dropped_full"] > 0
    # A group is written to the log before the log is cut: one group more, and no more.
    assert largest <= max_bytes + 200 * 400


def test_a_full_spool_drops_nothing_of_the_batch_under_way(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, max_bytes=400_000)
    spool.add_records(rows(500, size=200))
    batch = spool.next_batch(500)
    for _ in range(10):
        spool.add_records(rows(500, size=200))
    assert spool.next_batch(500) == batch


def test_records_of_an_older_agent_are_read(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute(
            "CREATE TABLE record (id INTEGER PRIMARY KEY AUTOINCREMENT, priority INTEGER NOT NULL,"
            " body TEXT NOT NULL, batch_id TEXT)"
        )
        db.execute("INSERT INTO record (priority, body) VALUES (0, '{\"timestamp\": 5.0}')")
    batch = make_spool(tmp_path).next_batch(10)
    assert batch is not None
    assert batch.records == [{"timestamp": 5.0, "seq": 1}]


def test_records_carry_boot_and_order_and_a_clock_set_later_puts_them_right(
    tmp_path: Path,
) -> None:
    clock = SimulatedClock(wall=0.0)  # it wakes up in 1970
    spool = make_spool(tmp_path, clock.clock)
    writer = SpoolWriter(spool, spool.config)
    for _ in range(3):
        clock.elapsed += 60.0
        writer.put({"timestamp": clock.clock.wall()})
    writer.flush()
    clock.elapsed += 60.0
    clock.wall_offset = 1_790_000_000.0  # the network tells the time
    batch = spool.next_batch(10)
    assert batch is not None
    assert batch.records == [
        {"timestamp": 1_790_000_000.0 + 60.0 * n, "seq": n, "boot_id": "boot-1"} for n in (1, 2, 3)
    ]
    spool.close()
    later = make_spool(tmp_path, SimulatedClock("boot-2").clock).next_batch(10)
    assert later is not None and later.batch_id == batch.batch_id
    assert [row["timestamp"] for row in later.records] == [60.0, 120.0, 180.0], "nobody can tell"
    assert {row["boot_id"] for row in later.records} == {"boot-1"}


@pytest.mark.parametrize("set_by", [-7200.0, -1.0, 0.0, 1.5, 7200.0])
def test_a_small_difference_of_the_clocks_is_no_jump(set_by: float) -> None:
    clock = SimulatedClock()
    stamp, at = clock.clock.wall(), clock.elapsed
    clock.elapsed += 100.0
    clock.wall_offset += set_by
    expected = stamp + set_by if abs(set_by) > 2 else stamp
    assert clock.clock.correct(stamp, at) == pytest.approx(expected)


def test_the_time_since_the_boot_never_goes_back() -> None:
    clock = read_system_clock()
    assert clock.boot_id == read_system_clock().boot_id
    readings = [clock.since_boot() for _ in range(100)]
    assert readings == sorted(readings)


def test_a_record_that_is_no_json_is_dropped_alone_and_counted(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    writer = SpoolWriter(spool, spool.config)
    for value in (1.0, float("nan"), object(), 2.0):
        writer.put({"n": value})
    writer.flush()
    assert [row["n"] for row in spool.export()] == [1.0, 2.0]
    assert spool.stat()["dropped_busy"] == 2


@pytest.fixture
def uploader(agent: Agent) -> Uploader:
    agent.spool.add_records(rows(10))
    return Uploader(agent.client, agent.spool, SpoolConfig(batch_records=4))


def test_a_batch_too_large_is_halved_and_the_size_recovers(
    agent: Agent, server: Server, uploader: Uploader
) -> None:
    calls = []

    def hook(request: Any) -> bool:
        calls.append(request.path)
        if len(calls) > 2:
            return False
        server.send_json(request, 413, {"code": "large", "message": "", "details": {}})
        return True

    server.hooks.append(("/api/ingest", hook))
    assert uploader.upload_records() == 10
    sizes = [len(batch) for batch in server.batches.values() if batch]
    assert sizes == [1, 1, 2, 4, 2], "the parts of the first batch, then larger ones"
    sent = sorted(row["n"] for batch in server.batches.values() for row in batch)
    assert sent == list(range(10))


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_left_alone_for_as_long_as_it_says(
    agent: Agent, server: Server, uploader: Uploader, status: int
) -> None:
    def hook(request: Any) -> bool:
        body = {"code": "busy", "message": "", "details": {}}
        server.send_json(request, status, body, {"Retry-After": "77"})
        return True

    server.hooks.append(("/api/ingest", hook))
    before = agent.spool.next_batch(4)
    with pytest.raises(AnswerError) as caught:
        uploader.upload_records()
    assert caught.value.retry_after_s == 77
    assert agent.spool.next_batch(4) == before
    server.hooks.clear()
    assert uploader.upload_records() == 10


def test_a_batch_whose_acknowledgement_was_lost_is_counted_once(
    agent: Agent, server: Server, uploader: Uploader
) -> None:
    batch = agent.spool.next_batch(4)
    assert batch is not None
    agent.client.post_records(batch.batch_id, batch.records)  # and the answer never came
    uploader.upload_records()
    assert list(server.batches).count(batch.batch_id) == 1
    sent = sorted(row["n"] for records in server.batches.values() for row in records)
    assert sent == list(range(10))
    assert agent.spool.stat()["records"] == 0


def test_a_week_offline_keeps_the_newest_and_what_matters_then_drains_in_batches(
    agent: Agent, server: Server
) -> None:
    """Seven simulated days at one record in 40 s, the clock set twice, the spool at its cap."""
    clock = SimulatedClock(wall=1_000_000.0)
    config = SpoolConfig(max_bytes=1_200_000, batch_records=500)
    spool = Spool(agent.layout.home / "week.db", config, clock.clock)
    writer, uploader = SpoolWriter(spool, config), Uploader(agent.client, spool, config)
    server.hooks.append(("/api/ingest", lambda request: server.send_json(
        request, 503, {"code": "down", "message": "", "details": {}}) is None))  # fmt: skip
    made = failures = 0
    for hour in range(7 * 24):
        for _ in range(90):
            clock.elapsed += 40.0
            is_failure = made % 500 == 0
            failures += is_failure
            record = {"timestamp": clock.clock.wall(), "n": made, "model": "m" * 64}
            writer.put(record, IMPORTANT if is_failure else ORDINARY)
            made += 1
        writer.flush()
        with pytest.raises(AnswerError):
            uploader.upload_records()
        if hour == 48:
            clock.wall_offset += 789_000_000.0  # set once, wrongly
        if hour == 100:
            clock.wall_offset = 1_790_000_000.0
    stat = spool.stat()
    assert stat["bytes"] <= config.max_bytes
    assert stat["records"] + stat["dropped_full"] == made
    assert stat["dropped_full"] > 0
    server.hooks.clear()
    calls = 0
    while spool.stat()["records"]:
        assert uploader.upload_records(max_batches=3) <= 1500
        calls += 1
    sent = [row for records in server.batches.values() for row in records]
    numbers = sorted(row["n"] for row in sent)
    assert len(numbers) == len(set(numbers)) == stat["records"]
    assert calls >= len(numbers) / 1500
    assert sum(row["n"] % 500 == 0 for row in sent) == failures, "every failure is there"
    ordinary = [n for n in numbers if n % 500]
    # The first batch, under way all the time, is the oldest; behind it there is one newest run.
    newest = ordinary[500:]
    assert newest == [n for n in range(newest[0], made) if n % 500]
    assert all(
        row["timestamp"] == pytest.approx(1_790_000_000.0 + 40.0 * (row["n"] + 1)) for row in sent
    ), "times are those of the clock as it was set last"


def test_the_system_clock_is_what_an_agent_uses(agent: Agent) -> None:
    assert agent.spool.clock.boot_id
    assert abs(agent.spool.clock.wall() - time.time()) < 60
