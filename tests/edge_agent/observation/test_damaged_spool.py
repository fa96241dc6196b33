"""Damaged pages of the spool lose at most their own rows; nothing ends, and nothing comes twice."""

import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config import SpoolConfig
from edge_agent.observation.spool import Row, Spool, open_spool
from edge_agent.observation.spool_salvage import PAGE_BYTES, salvage
from tests.edge_agent.publisher import Server, make_model
from tests.edge_agent.test_run import all_records, call, start, toml, wait_for

__all__ = ["start", "toml"]
ROWS = 3000
DAMAGE = {
    "zeros": bytes(PAGE_BYTES),
    "a pattern": b"\xa5" * PAGE_BYTES,
    "noise": np.random.default_rng(0).bytes(PAGE_BYTES),
}


def make_body(number: int) -> str:
    return json.dumps({"n": number, "padding": "x" * 200})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A spool that has been used: rows delivered, others waiting, some under way, events, long
    rows, dead letters."""
    path = tmp_path_factory.mktemp("spool") / "spool.db"
    spool = Spool(path, SpoolConfig())
    for first in range(0, ROWS, 500):
        spool.add_records([Row(n % 3, make_body(n), 1.0) for n in range(first, first + 500)])
    for _ in range(2):
        delivered = spool.next_batch(500)
        assert delivered is not None
        spool.acknowledge(delivered.batch_id, uploaded=500)
    refused = spool.next_batch(20)
    assert refused is not None
    spool.dead_letter(refused.batch_id, ["poison"])
    spool.next_batch(100)
    spool.add_records([Row(0, json.dumps({"n": ROWS, "padding": "y" * 30_000}), 1.0)])
    for state in ("downloading", "verified"):
        spool.events.add_event("a.1", state, "", "")
    spool.events.add_event("a.1", "committed", "", "", {"rows": 5, "agreed": 5})
    spool.file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    spool.close()
    return path.read_bytes()


def numbers_of(spool: Spool) -> list[int]:
    return [row["n"] for row in spool.export()]


def rows_by_page(data: bytes) -> dict[int, set[int]]:
    """The numbers of the waiting records that each page holds."""
    found: dict[int, set[int]] = {}
    before = {row[0] for row in salvage(data).tables["record"]}
    for page in range(1, len(data) // PAGE_BYTES + 1):
        left = {row[0] for row in salvage(damage(data, page)).tables["record"]}
        found[page] = before - left
    return found


def damage(data: bytes, *pages: int, by: bytes = DAMAGE["a pattern"]) -> bytes:
    changed = bytearray(data)
    for page in pages:
        changed[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = by
    return bytes(changed)


def test_of_a_whole_file_every_row_is_read_and_no_row_that_was_delivered(
    whole: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(whole)
    found = salvage(whole)
    assert found.damaged_pages == 0
    with sqlite3.connect(path) as db:
        for table, rows in found.tables.items():
            stored = db.execute(f"SELECT * FROM {table}").fetchall()
            assert sorted(rows) == sorted(stored), table
    assert len(found.tables["record"]) == ROWS + 1 - 1000 - 20


def test_a_damaged_page_costs_the_rows_on_it_and_no_others(whole: bytes) -> None:
    """Each page in turn; 16 records of 240 bytes fit on one."""
    lost = rows_by_page(whole)
    assert max(map(len, lost.values())) <= 17
    assert sum(map(len, lost.values())) >= ROWS - 1020


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("seed", range(4))
def test_whatever_pages_are_damaged_the_spool_goes_on(
    whole: bytes, tmp_path: Path, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pages = len(whole) // PAGE_BYTES
    chosen = rng.choice(np.arange(2, pages + 1), size=4, replace=False).tolist()
    path = tmp_path / "spool.db"
    path.write_bytes(damage(whole, *chosen, by=DAMAGE[kind]))
    waited = {row[0]: row for row in salvage(whole).tables["record"]}
    spool, reason = open_spool(path, SpoolConfig())
    assert reason == ""
    spool.add_records([Row(0, make_body(9999))])
    batches, seen = 0, []
    while (batch := spool.next_batch(500)) is not None and batches < 50:
        seen += [record["n"] for record in batch.records]
        spool.acknowledge(batch.batch_id, uploaded=len(batch.records))
        batches += 1
    assert len(seen) == len(set(seen)), "nothing comes twice"
    known = {json.loads(row[2])["n"] for row in waited.values()} | {9999}
    assert set(seen) <= known, "and nothing that was delivered comes again"
    assert len(known - set(seen)) <= 4 * 17
    assert 9999 in seen
    spool.events.add_event("a.1", "rolled_back", "x", "")
    assert spool.stat()["records"] == 0
    spool.close()


def test_damage_that_shows_only_later_is_mended_then_and_told(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(damage(whole, len(whole) // PAGE_BYTES // 2))
    spool = Spool(path, SpoolConfig())
    for _ in range(30):
        batch = spool.next_batch(500)
        if batch is None:
            break
        spool.acknowledge(batch.batch_id, uploaded=len(batch.records))
    assert spool.stat()["damaged_pages"] == 1
    assert path.with_suffix(".corrupt").exists()
    highest = max(row[0] for row in salvage(whole).tables["record"])
    spool.add_records([Row(0, make_body(1))])
    (batch,) = [spool.next_batch(500)]
    assert batch is not None
    assert batch.records[0]["seq"] > highest, "no number comes again"
    spool.close()


def test_a_command_beside_the_agent_repairs_nothing(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    data = damage(whole, *range(3, len(whole) // PAGE_BYTES))
    path.write_bytes(data)
    with pytest.raises(sqlite3.DatabaseError):
        Spool(path, SpoolConfig(), is_owner=False).stat()
    assert not path.with_suffix(".corrupt").exists()


def test_nothing_at_all_can_be_read_and_it_starts_anew(tmp_path: Path) -> None:
    for data in (b"", b"SQLite format 3\0", np.random.default_rng(1).bytes(50_000)):
        path = tmp_path / "spool.db"
        path.write_bytes(data)
        spool, reason = open_spool(path, SpoolConfig())
        assert reason == ""
        spool.add_records([Row(0, make_body(1))])
        assert numbers_of(spool) == [1]
        spool.close()
        for old in tmp_path.iterdir():
            old.unlink()


@pytest.mark.parametrize("pages", [(3, 4, 5), (20,)])
def test_an_agent_that_starts_on_damaged_pages_uploads_and_every_command_answers(
    server: Server,
    toml: Path,
    start: Callable[[], subprocess.Popen[bytes]],
    whole: bytes,
    pages: tuple[int, ...],
) -> None:
    server.publish(make_model())
    assert call(toml, "sync", "--once").returncode == 0
    path = toml.parent / "home" / "spool.db"
    for old in path.parent.glob("spool.db*"):
        old.unlink()
    path.write_bytes(damage(whole, *pages))
    process = start()
    wait_for(lambda: len(all_records(server)) > 1500, 60.0)
    wait_for(lambda: any("provider" in record for record in all_records(server)), 60.0)
    status = call(toml, "status", "--json")
    assert status.returncode == 0 and json.loads(status.stdout)["spool"]["damaged_pages"] >= 1
    doctor = json.loads(call(toml, "doctor", "--json").stdout)
    (check,) = [row for row in doctor if row["name"] == "spool"]
    assert not check["is_ok"] and "damaged" in check["detail"]
    assert process.poll() is None
