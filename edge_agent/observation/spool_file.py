"""The spool's database file: its tables, how it is opened, and how large it is on the disk."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS boot (id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS record (
    id INTEGER PRIMARY KEY AUTOINCREMENT, priority INTEGER NOT NULL, body TEXT NOT NULL,
    batch_id TEXT, boot INTEGER, since_boot_s REAL
);
CREATE INDEX IF NOT EXISTS record_batch ON record (batch_id) WHERE batch_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS batch (
    batch_id TEXT PRIMARY KEY, replaces TEXT NOT NULL, is_requeued INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS refused (
    id INTEGER PRIMARY KEY AUTOINCREMENT, batch_id TEXT NOT NULL, reason TEXT NOT NULL,
    body TEXT NOT NULL, replaces TEXT, priority INTEGER, at REAL
);
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, assignment_id TEXT NOT NULL, seq INTEGER NOT NULL,
    state TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL, at_monotonic_s REAL NOT NULL,
    is_sent INTEGER NOT NULL DEFAULT 0,
    UNIQUE (assignment_id, seq), UNIQUE (assignment_id, state, code, detail)
);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
# An agent of before these columns left a table without them.
ADDED_COLUMNS = (
    ("record", "boot", "INTEGER"),
    ("record", "since_boot_s", "REAL"),
    ("refused", "replaces", "TEXT"),
    ("refused", "priority", "INTEGER"),
    ("refused", "at", "REAL"),
)
PAGE_BYTES = 4096
IDLE_LOG_BYTES = 256 << 10
"""What the log may keep while nothing waits for upload."""
WAL_SHARE = 8
"""The write-ahead log may take one in so many of the spool's bytes."""


class SpoolFile:
    """An open database that knows its budget."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """
        Args:
            max_bytes: of the database, its write-ahead log and its index of it, together.
        """
        self.path = path
        self.wal_path = Path(f"{path}-wal")
        self.wal_limit_bytes = max(16 * PAGE_BYTES, max_bytes // WAL_SHARE)
        self.budget_bytes = max_bytes - self.wal_limit_bytes - 8 * PAGE_BYTES
        """What the pages in use may take, with the log and its shared index left out."""
        self.db = self._open()
        self._rows: int | None = None
        self._version = 0

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            logger.error("spool is corrupt and set aside: %s", error)
            for suffix in ("-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            self.path.replace(self.path.with_suffix(".corrupt"))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
        # auto_vacuum is fixed when the first table is made, so it comes before everything.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {self.wal_limit_bytes}")
        pages = min(1000, self.wal_limit_bytes // PAGE_BYTES // 2)
        db.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        db.executescript(SCHEMA)
        for table, name, kind in ADDED_COLUMNS:
            columns = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            if name not in columns:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
        return db

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is on the disk at its end, or nothing of it after an exception."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            self._rows = None
            raise
        self.db.execute("COMMIT")

    def count_rows(self) -> int:
        """How many records wait.

        This is asked every second, and a spool of a week offline takes many reads to count. So it
        is counted once, and again when another process has written (a command of a person).
        """
        (version,) = self.db.execute("PRAGMA data_version").fetchone()
        if self._rows is None or version != self._version:
            (self._rows,) = self.db.execute("SELECT COUNT(*) FROM record").fetchone()
            self._version = version
        return int(self._rows or 0)

    def note_rows(self, number: int) -> None:
        """Takes note of records that came, or with a minus went; inside a transaction."""
        if self._rows is not None:
            self._rows += number

    def count(self, name: str, number: int) -> None:
        """Adds `number` to a counter that lasts; inside a transaction."""
        if number:
            self.db.execute(
                "INSERT INTO counter VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (name, number),
            )

    def used_bytes(self) -> int:
        """Of the pages that hold something, indexes included; the log is not."""
        (pages,) = self.db.execute("PRAGMA page_count").fetchone()
        (free,) = self.db.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free) * PAGE_BYTES

    def disk_bytes(self) -> int:
        """Of the database and its log as they lie on the disk."""
        total = 0
        for path in (self.path, self.wal_path, Path(f"{self.path}-shm")):
            try:
                total += os.stat(path).st_size
            except FileNotFoundError:
                continue
        return total

    def shrink(self) -> None:
        """Gives free pages back and cuts the log; a reader of another process may put it off."""
        # Through `execute` it would free one page alone.
        self.db.executescript("PRAGMA incremental_vacuum")
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def keep_log_short(self, limit_bytes: int | None = None) -> None:
        """Cuts the log when it is past `limit_bytes`; None stands for its share of the cap."""
        try:
            size = os.stat(self.wal_path).st_size
        except FileNotFoundError:
            return
        if size > (self.wal_limit_bytes if limit_bytes is None else limit_bytes):
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
