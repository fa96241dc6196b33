"""Records and events on disk until the server has them: SQLite, WAL, `synchronous=FULL`.

A batch gets its id in the same transaction that picks its rows, so that after any crash the same
rows go out again under the same id, and the server counts them once.
"""

import collections
import json
import logging
import sqlite3
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.config import SpoolConfig

logger = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    id INTEGER PRIMARY KEY AUTOINCREMENT, priority INTEGER NOT NULL, body TEXT NOT NULL,
    batch_id TEXT
);
CREATE INDEX IF NOT EXISTS record_batch ON record (batch_id) WHERE batch_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, assignment_id TEXT NOT NULL, seq INTEGER NOT NULL,
    state TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL, at_monotonic_s REAL NOT NULL,
    is_sent INTEGER NOT NULL DEFAULT 0,
    UNIQUE (assignment_id, seq), UNIQUE (assignment_id, state, code, detail)
);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
ORDINARY, IMPORTANT = 0, 1


@dataclass(frozen=True)
class Batch:
    batch_id: str
    records: list[dict[str, Any]]


class Spool:
    """The database; safe to use from several threads."""

    def __init__(self, path: Path, config: SpoolConfig, *, monotonic: Callable[[], float]) -> None:
        self.config = config
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._db = self._open(path)

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            return self._connect(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            logger.error("spool is corrupt and set aside: %s", error)
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            path.replace(path.with_suffix(".corrupt"))
            return self._connect(path)

    def _connect(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        # auto_vacuum is fixed when the first table is made, so it comes before everything.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(SCHEMA)
        return db

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add_records(self, rows: list[tuple[int, str]]) -> None:
        """Stores (priority, JSON body) rows, durable on return; past the cap the least go."""
        with self._lock, self._transaction():
            self._db.executemany("INSERT INTO record (priority, body) VALUES (?, ?)", rows)
        self._enforce_cap()

    def next_batch(self, limit: int) -> Batch | None:
        """The batch that is under way, else a new one of the oldest rows; None when empty."""
        with self._lock, self._transaction():
            row = self._db.execute(
                "SELECT batch_id FROM record WHERE batch_id IS NOT NULL ORDER BY id LIMIT 1"
            ).fetchone()
            batch_id = row[0] if row else uuid.uuid4().hex
            if row is None:
                self._db.execute(
                    "UPDATE record SET batch_id = ? WHERE id IN "
                    "(SELECT id FROM record ORDER BY id LIMIT ?)",
                    (batch_id, limit),
                )
            rows = self._db.execute(
                "SELECT body FROM record WHERE batch_id = ? ORDER BY id", (batch_id,)
            ).fetchall()
        return Batch(batch_id, [json.loads(body) for (body,) in rows]) if rows else None

    def acknowledge(self, batch_id: str, *, uploaded: int) -> None:
        with self._lock, self._transaction():
            self._db.execute("DELETE FROM record WHERE batch_id = ?", (batch_id,))
            self._count("uploaded", uploaded)
        with self._lock:
            self._db.executescript("PRAGMA incremental_vacuum(256)")

    def release(self, batch_id: str) -> None:
        """Takes the id off its rows. Only right when the server stored nothing of it (413)."""
        with self._lock, self._transaction():
            self._db.execute("UPDATE record SET batch_id = NULL WHERE batch_id = ?", (batch_id,))

    def add_event(self, assignment_id: str, state: str, code: str, detail: str) -> None:
        """Notes an installation event with the next `seq`; one already noted is not noted again."""
        with self._lock, self._transaction():
            (last,) = self._db.execute(
                "SELECT COALESCE(MAX(seq), 0) FROM event WHERE assignment_id = ?", (assignment_id,)
            ).fetchone()
            self._db.execute(
                "INSERT OR IGNORE INTO event "
                "(assignment_id, seq, state, code, detail, at_monotonic_s) VALUES (?,?,?,?,?,?)",
                (assignment_id, last + 1, state, code, detail, round(self._monotonic(), 3)),
            )
            # Sent events stay to keep `seq` rising, but not without end.
            self._db.execute(
                "DELETE FROM event WHERE is_sent AND id < (SELECT MAX(id) FROM event) - 1000"
            )

    def pending_events(self) -> dict[str, list[dict[str, Any]]]:
        """Unsent events per assignment, oldest assignment first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT assignment_id, seq, state, code, detail, at_monotonic_s FROM event "
                "WHERE NOT is_sent ORDER BY id LIMIT 200"
            ).fetchall()
        grouped: dict[str, list[dict[str, Any]]] = {}
        names = ("seq", "state", "code", "detail", "at_monotonic_s")
        for assignment_id, *values in rows:
            grouped.setdefault(assignment_id, []).append(dict(zip(names, values, strict=True)))
        return grouped

    def mark_events_sent(self, assignment_id: str, last_seq: int) -> None:
        with self._lock, self._transaction():
            self._db.execute(
                "UPDATE event SET is_sent = 1 WHERE assignment_id = ? AND seq <= ?",
                (assignment_id, last_seq),
            )

    def stat(self) -> dict[str, int]:
        """Rows and bytes waiting, and what was uploaded or dropped since the spool was made."""
        with self._lock:
            (rows,) = self._db.execute("SELECT COUNT(*) FROM record").fetchone()
            (events,) = self._db.execute("SELECT COUNT(*) FROM event WHERE NOT is_sent").fetchone()
            counters = dict(self._db.execute("SELECT name, value FROM counter").fetchall())
            return {
                "records": rows,
                "events": events,
                "bytes": self._used_bytes(),
                "uploaded": counters.get("uploaded", 0),
                "dropped": counters.get("dropped", 0),
            }

    def count_dropped(self, number: int) -> None:
        with self._lock, self._transaction():
            self._count("dropped", number)

    def export(self) -> list[dict[str, Any]]:
        with self._lock:
            rows = self._db.execute("SELECT body FROM record ORDER BY id").fetchall()
        return [json.loads(body) for (body,) in rows]

    def _enforce_cap(self) -> None:
        with self._lock:
            while self._used_bytes() > self.config.max_bytes:
                with self._transaction():
                    # Rows of a batch under way stay: the server may have them already.
                    dropped = self._db.execute(
                        "DELETE FROM record WHERE id IN (SELECT id FROM record "
                        "WHERE batch_id IS NULL ORDER BY priority, id LIMIT 1000)"
                    ).rowcount
                    self._count("dropped", dropped)
                self._db.executescript("PRAGMA incremental_vacuum(1000)")
                if dropped == 0:
                    return

    def _used_bytes(self) -> int:
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._db.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def _count(self, name: str, number: int) -> None:
        self._db.execute(
            "INSERT INTO counter VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, number),
        )

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def __enter__(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self.db.execute("ROLLBACK" if kind else "COMMIT")


class SpoolWriter(threading.Thread):
    """Takes records off the hot path and commits them in groups, by count or by time."""

    def __init__(self, spool: Spool, config: SpoolConfig) -> None:
        super().__init__(name="spool", daemon=True)
        self.spool = spool
        self.config = config
        self._queue: collections.deque[tuple[int, dict[str, Any]]] = collections.deque()
        self._stopping = threading.Event()
        self._lost = 0

    def put(self, record: dict[str, Any], priority: int = ORDINARY) -> None:
        """Queues a record; never blocks, and drops (and counts) when the disk cannot keep up."""
        if len(self._queue) >= self.config.queue_rows:
            self._lost += 1
            return
        self._queue.append((priority, record))

    def run(self) -> None:
        step_s = min(self.config.flush_interval_s, 0.1)
        waited_s = 0.0
        while not self._stopping.wait(step_s):
            waited_s += step_s
            is_due = waited_s >= self.config.flush_interval_s
            if is_due or len(self._queue) >= self.config.flush_rows:
                waited_s = 0.0
                self.flush()
        self.flush()

    def flush(self) -> None:
        while self._queue:
            rows: list[Any] = []
            while self._queue and len(rows) < self.config.flush_rows:
                priority, record = self._queue.popleft()
                rows.append((priority, json.dumps(record, separators=(",", ":"))))
            try:
                self.spool.add_records(rows)
            except sqlite3.Error:
                self._lost += len(rows)
                logger.exception("%d records could not be spooled", len(rows))
        if self._lost:
            try:
                self.spool.count_dropped(self._lost)
                self._lost = 0
            except sqlite3.Error:
                logger.warning("%d dropped records are not counted yet", self._lost)

    def stop(self) -> None:
        """Flushes what is queued and ends the thread."""
        self._stopping.set()
        self.join(timeout=10)
