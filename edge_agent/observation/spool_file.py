"""The spool's database file: its tables, how it is opened, and how large it is on the disk."""

import contextlib
import functools
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

logger = logging.getLogger(__name__)
S = TypeVar("S", bound="OnFile")
P = ParamSpec("P")
R = TypeVar("R")

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
    is_sent INTEGER NOT NULL DEFAULT 0, self_test TEXT,
    UNIQUE (assignment_id, seq), UNIQUE (assignment_id, state, code, detail)
);
CREATE TABLE IF NOT EXISTS summary (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, model TEXT NOT NULL,
    model_version TEXT NOT NULL, start INTEGER NOT NULL, seconds INTEGER NOT NULL,
    baseline TEXT NOT NULL, widths TEXT NOT NULL, revision INTEGER NOT NULL, sent INTEGER NOT NULL,
    counts TEXT NOT NULL, UNIQUE (source, model, model_version, start, seconds)
);
CREATE TABLE IF NOT EXISTS counting (
    source TEXT NOT NULL, after_s INTEGER NOT NULL, window_s INTEGER NOT NULL
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
    ("event", "self_test", "TEXT"),
)
COLUMNS = {
    "record": ("id", "priority", "body", "batch_id", "boot", "since_boot_s"),
    "refused": ("id", "batch_id", "reason", "body", "replaces", "priority", "at"),
    "event": (
        "id", "assignment_id", "seq", "state", "code", "detail", "at_monotonic_s", "is_sent",
        "self_test",
    ),
    "batch": ("batch_id", "replaces", "is_requeued"),
    "boot": ("id", "boot_id"),
    "counter": ("name", "value"),
}  # fmt: skip
PAGE_BYTES = 4096
IDLE_LOG_BYTES = 256 << 10
"""What the log may keep while nothing waits for upload."""
WAL_SHARE = 8
"""The write-ahead log may take one in so many of the spool's bytes."""


DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
UNWRITABLE = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
MEMORY = Path(":memory:")
MEMORY_MAX_BYTES = 4 << 20
SPARE_NUMBERS = 10_000
"""Left out after a repair: lost rows may have had them, and no number may come twice."""


class SpoolFile:
    """An open database that knows its budget, and is opened anew when the disk fails it.

    A damaged file is replaced by one with every row that can still be read. Where nothing can be
    written any more, rows are kept in memory until the next start, and what the disk holds waits.
    """

    def __init__(self, path: Path, max_bytes: int, *, is_owner: bool = True) -> None:
        """
        Args:
            max_bytes: of the database, its write-ahead log and its index of it, together.
            is_owner: False leaves a damaged file as it is: another process works with it.
        """
        self._max_bytes = max_bytes
        self._is_owner = is_owner
        self.trouble = ""
        """Why the rows are not where they should be; empty while they are."""
        self.path = path
        self.wal_path = Path(f"{path}-wal")
        self.wal_limit_bytes = max(16 * PAGE_BYTES, max_bytes // WAL_SHARE)
        self.budget_bytes = max_bytes - self.wal_limit_bytes - 8 * PAGE_BYTES
        """What the pages in use may take, with the log and its shared index left out."""
        self.db = self._open()
        self._rows: int | None = None
        self._version = 0

    def recover(self, error: sqlite3.Error) -> bool:
        """Opens the database anew after `error`; False when that would not help."""
        code = _primary_code(error)
        if code in DAMAGED and self._is_owner and self.path != MEMORY:
            logger.error("%s is damaged (%s); what can be read is kept", self.path.name, error)
            self.db.close()
            try:
                self.db = self._rebuild()
            except (OSError, sqlite3.Error) as failure:
                self._go_to_memory(f"damaged, and cannot be repaired: {failure}")
            self._rows = None
            return True
        if code in UNWRITABLE and self._is_owner and self.path != MEMORY:
            self.db.close()
            self._go_to_memory(str(error))
            return True
        return False

    def _go_to_memory(self, reason: str) -> None:
        kind = "read_only" if is_read_only(self.path.parent) else "disk"
        self.trouble = (
            f"{kind}: {self.path.name}: {reason}; records are kept in memory until the next start"
        )
        logger.error("%s", self.trouble)
        self.path, self.wal_path = MEMORY, Path(f"{MEMORY}-wal")
        self.budget_bytes = min(self.budget_bytes, MEMORY_MAX_BYTES)
        self.db, self._rows = self._connect(), None

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if _primary_code(error) not in DAMAGED or not self._is_owner:
                raise
            logger.error("%s is damaged (%s); what can be read is kept", self.path.name, error)
            return self._rebuild()

    def _rebuild(self) -> sqlite3.Connection:
        """A new file with what can be read of the damaged one, which stays as `spool.corrupt`."""
        from edge_agent.observation.spool_salvage import salvage

        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(self.path, timeout=10)) as old,
        ):
            # The log may hold newer pages than the file.
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        found = salvage(self.path.read_bytes())
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self.path.replace(self.path.with_suffix(".corrupt"))
        db = self._connect()
        db.execute("BEGIN IMMEDIATE")
        for table, rows in found.tables.items():
            for row in rows:
                marks = ", ".join("?" * len(row))
                names = ", ".join(COLUMNS[table][: len(row)])
                # The names are COLUMNS' own.
                db.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", row)  # noqa: S608
        for table in ("record", "refused", "event"):
            highest = max((row[0] for row in found.tables[table]), default=0)
            db.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            db.execute(
                "INSERT INTO sqlite_sequence VALUES (?, ?)", (table, highest + SPARE_NUMBERS)
            )
        db.execute(
            "INSERT INTO counter VALUES ('damaged_pages', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (found.damaged_pages,),
        )
        db.execute("COMMIT")
        logger.error(
            "%s: %d of %d pages were damaged; %d records are kept",
            self.path.name,
            found.damaged_pages,
            found.pages,
            len(found.tables["record"]),
        )
        return db

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
            # After some errors, a full disk among them, SQLite has done so by itself.
            if self.db.in_transaction:
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


def mending(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method of the spool that is tried once more when the disk failed it and another database
    was opened."""

    @functools.wraps(method)
    def call(spool: S, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(spool, *args, **kwargs)
        except sqlite3.DatabaseError as error:
            with spool.lock:
                if not spool.file.recover(error):
                    raise
            return method(spool, *args, **kwargs)

    return call


class OnFile(Protocol):
    """What has a file and a lock for it."""

    @property
    def file(self) -> SpoolFile: ...
    @property
    def lock(self) -> threading.RLock: ...


def is_read_only(folder: Path) -> bool:
    """Whether the file system of `folder` takes no writes."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _primary_code(error: sqlite3.Error) -> int:
    """The error's kind; its finer distinctions are in the higher bytes (sqlite.org/rescode)."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
