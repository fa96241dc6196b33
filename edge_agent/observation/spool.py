"""Records and events on disk until the server has them: SQLite, WAL, `synchronous=FULL`.

A batch gets its id in the same transaction that picks its rows, so that after any crash the same
rows go out again under the same id, and the server counts them once.
"""

import dataclasses
import json
import logging
import sqlite3
import threading
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.clock import Clock, read_system_clock
from edge_agent.config import SpoolConfig
from edge_agent.observation.dead_letters import MAX_REPLACED, DeadLetters
from edge_agent.observation.event_log import EventLog
from edge_agent.observation.spool_file import (
    IDLE_LOG_BYTES,
    MEMORY,
    MEMORY_MAX_BYTES,
    SpoolFile,
    is_read_only,
    mending,
)
from edge_agent.observation.summaries import Counts, Summaries, WindowKey

logger = logging.getLogger(__name__)

NOTHING_COUNTED: Mapping[WindowKey, Counts] = {}
ORDINARY, UNSURE, IMPORTANT = 0, 1, 2
"""Priorities: an answer, an answer of low confidence, a failure. The higher leave last when space
runs out, and go up first."""
DROP_TO = 0.9
"""Past the cap, space is made down to this share of it, not to be at the cap again at once."""
DROP_ROWS = 1000
MOST_IMPORTANT = (
    "UPDATE record SET batch_id = ? WHERE id IN (SELECT id FROM record "
    "WHERE batch_id IS NULL ORDER BY priority DESC, id LIMIT ?)"
)
NEWEST = (
    "UPDATE record SET batch_id = ? WHERE id IN (SELECT id FROM record "
    "WHERE batch_id IS NULL ORDER BY priority, id DESC LIMIT ?)"
)
encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class Batch:
    batch_id: str
    records: list[dict[str, Any]]
    replaces: tuple[str, ...] = ()
    """Ids that these records were sent under before, without an answer to rely on."""


@dataclass(frozen=True)
class Row:
    """A record on its way to the disk."""

    priority: int
    body: str
    since_boot_s: float | None = None
    """When it was made, in seconds since the boot."""


def open_spool(path: Path, config: SpoolConfig) -> tuple["Spool", str]:
    """The spool at `path`; where the disk lets none be opened, one in memory and the reason.

    A device that starts on a full or read-only disk has to run its model all the same. What it then
    records is uploaded as ever, and lost with the process; what the disk holds waits for the next
    start.
    """
    try:
        return Spool(path, config), ""
    except (sqlite3.Error, OSError) as error:
        kind = "read_only" if is_read_only(path.parent) else "disk_full"
        reason = f"{kind}: {path.name}: {error}; records are kept in memory until the next start"
        logger.error("%s", reason)
        return open_memory_spool(config), reason


def open_memory_spool(config: SpoolConfig) -> "Spool":
    """A spool that ends with the process."""
    limit = min(config.max_bytes, MEMORY_MAX_BYTES)
    return Spool(MEMORY, dataclasses.replace(config, max_bytes=limit))


class Spool:
    """The database; safe to use from several threads."""

    def __init__(
        self,
        path: Path,
        config: SpoolConfig,
        clock: Clock | None = None,
        *,
        is_owner: bool = True,
    ) -> None:
        """`is_owner`: False for a command beside the running agent, which repairs nothing."""
        self.config = config
        self.clock = clock or read_system_clock()
        self.lock = threading.RLock()
        self.file = SpoolFile(path, config.max_bytes, is_owner=is_owner)
        self.dead_letters = DeadLetters(self.file, self.lock, config.dead_letters_max_rows)
        self.events = EventLog(self.file, self.lock, self.clock)
        self.summaries = Summaries(self.file, self.lock)
        self._note_boot()

    @property
    def _db(self) -> sqlite3.Connection:
        return self.file.db

    @property
    def _boot(self) -> int:
        """The number of this boot; another one after the file was opened anew."""
        row = self._db.execute(
            "SELECT id FROM boot WHERE boot_id = ?", (self.clock.boot_id,)
        ).fetchone()
        return int(row[0]) if row else self._note_boot()

    @mending
    def _note_boot(self) -> int:
        with self.lock, self.file.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO boot (boot_id) VALUES (?)", (self.clock.boot_id,)
            )
            # Boots that no record is of any more.
            self._db.execute(
                "DELETE FROM boot WHERE boot_id <> ? AND id NOT IN "
                "(SELECT DISTINCT boot FROM record WHERE boot IS NOT NULL)",
                (self.clock.boot_id,),
            )
            (number,) = self._db.execute(
                "SELECT id FROM boot WHERE boot_id = ?", (self.clock.boot_id,)
            ).fetchone()
        return int(number)

    def close(self) -> None:
        with self.lock:
            self._db.close()

    @mending
    def add_records(
        self, rows: list[Row], counted: Mapping[WindowKey, Counts] = NOTHING_COUNTED
    ) -> None:
        """Stores `rows` and adds what is `counted`, durable on return; past the cap the least of
        the rows go."""
        with self.lock:
            boot = self._boot
            with self.file.transaction():
                self._db.executemany(
                    "INSERT INTO record (priority, body, boot, since_boot_s) VALUES (?, ?, ?, ?)",
                    [(row.priority, row.body, boot, row.since_boot_s) for row in rows],
                )
                self.file.note_rows(len(rows))
                self.summaries.add(counted)
            self._enforce_cap()

    @mending
    def next_batch(
        self,
        limit: int,
        *,
        skip: Collection[str] = (),
        is_new_allowed: bool = True,
        is_probe: bool = False,
    ) -> Batch | None:
        """A batch that is under way, else a new one, else one put back; None when there is none.

        A new one takes the `limit` rows of the highest priority, of these the oldest.

        Args:
            skip: batches to be passed over.
            is_new_allowed: False makes none.
            is_probe: a new one is a single row, the newest of the least important: it should have
                little in common with what failed.
        """
        with self.lock, self.file.transaction():
            batch_id = self._under_way(skip, is_requeued=False)
            if batch_id is None and is_new_allowed:
                batch_id = self._make_batch(1 if is_probe else limit, is_probe=is_probe)
            if batch_id is None:
                batch_id = self._under_way(skip, is_requeued=True)
            return self._read_batch(batch_id) if batch_id else None

    @mending
    def find_batch(self, batch_id: str) -> Batch | None:
        """The batch of that id while it is under way."""
        with self.lock:
            return self._read_batch(batch_id)

    @mending
    def has_new(self) -> bool:
        """True while rows wait that are in no batch yet."""
        with self.lock:
            found = self._db.execute("SELECT 1 FROM record WHERE batch_id IS NULL LIMIT 1")
            return found.fetchone() is not None

    def _under_way(self, skip: Collection[str], *, is_requeued: bool) -> str | None:
        rows = self._db.execute(
            "SELECT record.batch_id FROM record LEFT JOIN batch USING (batch_id) "
            "WHERE record.batch_id IS NOT NULL AND COALESCE(is_requeued, 0) = ? "
            "GROUP BY record.batch_id ORDER BY MIN(record.id)",
            (is_requeued,),
        )
        return next((batch_id for (batch_id,) in rows.fetchall() if batch_id not in skip), None)

    def _make_batch(self, limit: int, *, is_probe: bool) -> str | None:
        batch_id = uuid.uuid4().hex
        chosen = NEWEST if is_probe else MOST_IMPORTANT
        made = self._db.execute(chosen, (batch_id, limit)).rowcount
        return batch_id if made else None

    def _read_batch(self, batch_id: str) -> Batch | None:
        rows = self._db.execute(
            "SELECT record.id, body, boot, boot_id, since_boot_s FROM record "
            "LEFT JOIN boot ON boot.id = record.boot WHERE batch_id = ? ORDER BY record.id",
            (batch_id,),
        ).fetchall()
        if not rows:
            return None
        return Batch(batch_id, [self._read(*row) for row in rows], self._replaced_by(batch_id))

    def _replaced_by(self, batch_id: str) -> tuple[str, ...]:
        row = self._db.execute(
            "SELECT replaces FROM batch WHERE batch_id = ?", (batch_id,)
        ).fetchone()
        return tuple(json.loads(row[0])) if row else ()

    @mending
    def acknowledge(self, batch_id: str, *, uploaded: int, rejected: int = 0) -> None:
        """Forgets the rows of a batch that the server has: counted, or rejected one by one."""
        with self.lock:
            with self.file.transaction():
                self._forget(batch_id)
                self.file.count("uploaded", uploaded)
                self.file.count("rejected", rejected)
            self._db.executescript("PRAGMA incremental_vacuum(256)")
            is_empty = self._db.execute("SELECT 1 FROM record LIMIT 1").fetchone() is None
            self.file.keep_log_short(IDLE_LOG_BYTES if is_empty else None)

    @mending
    def split(self, batch_id: str) -> tuple[str, str]:
        """Makes two batches of one with at least two rows; returns their ids.

        Each names the ids that its rows were sent under, for the server may have stored the whole
        before its answer failed.
        """
        with self.lock, self.file.transaction():
            rows = self._db.execute(
                "SELECT id FROM record WHERE batch_id = ? ORDER BY id", (batch_id,)
            ).fetchall()
            chain = [*self._replaced_by(batch_id), batch_id][-MAX_REPLACED:]
            parts = uuid.uuid4().hex, uuid.uuid4().hex
            middle = len(rows) // 2
            for part, members in zip(parts, (rows[:middle], rows[middle:]), strict=True):
                self._db.executemany(
                    "UPDATE record SET batch_id = ? WHERE id = ?",
                    [(part, number) for (number,) in members],
                )
                self._db.execute(
                    "INSERT INTO batch (batch_id, replaces, is_requeued) VALUES (?, ?, "
                    "COALESCE((SELECT is_requeued FROM batch WHERE batch_id = ?), 0))",
                    (part, json.dumps(chain), batch_id),
                )
            self._db.execute("DELETE FROM batch WHERE batch_id = ?", (batch_id,))
        return parts

    @mending
    def dead_letter(self, batch_id: str, reasons: Sequence[str]) -> int:
        """Makes dead letters of a batch that the server will not take; returns its number of rows.

        Args:
            reasons: one for each of its records, or one for all of them.
        """
        with self.lock, self.file.transaction():
            batch = self._read_batch(batch_id)
            if batch is None:
                return 0
            number = len(batch.records)
            priorities = self._db.execute(
                "SELECT priority FROM record WHERE batch_id = ? ORDER BY id", (batch_id,)
            ).fetchall()
            # As they would have gone up: with their place in the order and their time put right.
            rows = [
                (priority, encode(record))
                for (priority,), record in zip(priorities, batch.records, strict=True)
            ]
            given = list(reasons) if len(reasons) == number else [*reasons[:1]] * number
            self.dead_letters.add(batch_id, rows, given, json.dumps(batch.replaces))
            self._forget(batch_id)
        return number

    def _forget(self, batch_id: str) -> None:
        gone = self._db.execute("DELETE FROM record WHERE batch_id = ?", (batch_id,)).rowcount
        self.file.note_rows(-gone)
        self._db.execute("DELETE FROM batch WHERE batch_id = ?", (batch_id,))

    @mending
    def stat(self) -> dict[str, int]:
        """Rows and bytes waiting, and what became of the others since the spool was made.

        `aside` are the dead letters now, `refused` all that ever were. `dropped`, what is
        lost, is the sum of `dropped_full` (no space), `dropped_busy` (the disk could not keep up),
        `aside_dropped` (dead letters past their cap or discarded by a person) and `dropped_counts`
        (in windows that could not be sent for a week); `rejected` are single records of batches
        that the server took. `counted` are records in windows whose newest counts it has not.
        """
        with self.lock:
            rows = self.file.count_rows()
            counters = dict(self._db.execute("SELECT name, value FROM counter").fetchall())
            found = {
                "records": rows,
                "events": self.events.count(),
                "bytes": self.file.disk_bytes(),
            }
            found["aside"] = self.dead_letters.count()
        names = ("uploaded", "rejected", "refused", "dropped_full", "dropped_busy", "aside_dropped")
        found |= {
            name: counters[name]
            for name in ("damaged_pages", "dropped_counts", "refused_windows")
            if counters.get(name)
        }
        waiting = self.summaries.count_waiting()
        if waiting:
            found["counted"] = waiting
        found |= {name: counters.get(name, 0) for name in names}
        # What an agent counted before it told the reasons apart.
        found["dropped"] = counters.get("dropped", 0)
        found["dropped"] += found["aside_dropped"] + found["dropped_full"] + found["dropped_busy"]
        found["dropped"] += counters.get("dropped_counts", 0)
        return found

    def find_damage(self) -> str:
        """What SQLite finds wrong with the file, in its words; empty where nothing is."""
        with self.lock:
            try:
                rows = self._db.execute("PRAGMA quick_check(1)").fetchall()
            except sqlite3.DatabaseError as error:
                return str(error)
        return "" if rows == [("ok",)] else str(rows[0][0])[:200]

    @mending
    def count_dropped(self, number: int) -> None:
        """Counts records that never reached the disk."""
        with self.lock, self.file.transaction():
            self.file.count("dropped_busy", number)

    @mending
    def export(self) -> list[dict[str, Any]]:
        """The waiting records, oldest first."""
        with self.lock:
            rows = self._db.execute("SELECT body FROM record ORDER BY id").fetchall()
        return [json.loads(body) for (body,) in rows]

    def _read(
        self, number: int, body: str, boot: int | None, boot_id: str | None, since: float | None
    ) -> dict[str, Any]:
        """A record as it goes up: with its place in the order, and its time put right."""
        record: dict[str, Any] = json.loads(body)
        record.setdefault("seq", number)
        if boot_id is not None:
            record.setdefault("boot_id", boot_id)
        stamp = record.get("timestamp")
        if boot == self._boot and since is not None and isinstance(stamp, int | float):
            record["timestamp"] = round(self.clock.correct(stamp, since), 3)
        return record

    def _enforce_cap(self) -> None:
        self.file.keep_log_short()
        if self.file.used_bytes() <= self.file.budget_bytes:
            return
        while self.file.used_bytes() > self.file.budget_bytes * DROP_TO:
            with self.file.transaction():
                # Rows of a batch under way stay: the server may have them already.
                dropped = self._db.execute(
                    "DELETE FROM record WHERE id IN (SELECT id FROM record "
                    "WHERE batch_id IS NULL ORDER BY priority, id LIMIT ?)",
                    (DROP_ROWS,),
                ).rowcount
                self.file.note_rows(-dropped)
                self.file.count("dropped_full", dropped)
            if dropped == 0:
                break
        self.file.shrink()
