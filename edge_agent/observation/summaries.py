"""What the device has counted, by window, beside the records on the disk."""

import json
import sqlite3
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_agent.observation.spool_file import SpoolFile, mending

Counts = dict[str, Any]
"""Sums and, by name, counts of the bins that are not empty."""
MOST_WINDOWS = 2_000
"""Windows that are kept: a week offline with ten models, an hour each."""
KEEP_S = 8 * 86_400
"""The server takes what is a week old."""
SETTLED_S = 86_400
"""After a window's end; a clock that was set back by less still finds what it has counted."""
_MERGED = ("latency", "confidence", "classes")


@dataclass(frozen=True)
class WindowKey:
    """A window of one release, and by what its records are counted.

    `widths` is a JSON object of how many bins each feature has.
    """

    model: str
    model_version: str
    start: int
    seconds: int
    baseline: str
    widths: str


@dataclass(frozen=True)
class Pending:
    """A window of which the server does not know the newest counts."""

    number: int
    source: str
    key: WindowKey
    revision: int
    counts: Counts


class Summaries:
    """The table of windows; `add` is for the inside of a transaction of the spool."""

    def __init__(self, file: SpoolFile, lock: threading.RLock) -> None:
        self.file = file
        self.lock = lock

    @property
    def _db(self) -> sqlite3.Connection:
        return self.file.db

    def add(self, counted: Mapping[WindowKey, Counts]) -> None:
        """Adds counts to their windows; past `MOST_WINDOWS` the oldest go, and are counted lost."""
        for key, counts in counted.items():
            found = self._db.execute(
                "SELECT id, counts FROM summary WHERE model = ? AND model_version = ? "
                "AND start = ? AND seconds = ? AND baseline = ? ORDER BY id DESC LIMIT 1",
                (key.model, key.model_version, key.start, key.seconds, key.baseline),
            ).fetchone()
            if found is None:
                self._insert(key, counts)
                continue
            total = merge_counts(json.loads(found[1]), counts)
            self._db.execute(
                "UPDATE summary SET counts = ?, revision = revision + 1 WHERE id = ?",
                (_encode(total), found[0]),
            )

    def _insert(self, key: WindowKey, counts: Counts) -> None:
        # The server knows a window by its start and source, whatever its features are counted by.
        source = self._read_source()
        taken = self._db.execute(
            "SELECT 1 FROM summary WHERE source = ? AND model = ? AND model_version = ? "
            "AND start = ? AND seconds = ?",
            (source, key.model, key.model_version, key.start, key.seconds),
        ).fetchone()
        if taken:
            source = self._renew_source()
        self._db.execute(
            "INSERT INTO summary (source, model, model_version, start, seconds, baseline, widths, "
            "revision, sent, counts) VALUES (?, ?, ?, ?, ?, ?, ?, 1, 0, ?)",
            (
                source, key.model, key.model_version, key.start, key.seconds, key.baseline,
                key.widths, _encode(counts),
            ),
        )  # fmt: skip
        (rows,) = self._db.execute("SELECT COUNT(*) FROM summary").fetchone()
        if rows > MOST_WINDOWS:
            self._forget(
                "id IN (SELECT id FROM summary ORDER BY start, id LIMIT ?)", rows - MOST_WINDOWS
            )

    def _forget(self, which: str, *values: int) -> None:
        """Deletes windows; from then on the counting has another name, for what is gone may not be
        taken for the beginning of the same window."""
        rows = self._db.execute(
            f"SELECT counts FROM summary WHERE {which} AND revision > sent",  # noqa: S608
            values,
        ).fetchall()
        self.file.count("dropped_counts", sum(json.loads(row[0]).get("n", 0) for row in rows))
        if self._db.execute(f"DELETE FROM summary WHERE {which}", values).rowcount:  # noqa: S608
            self._renew_source()

    def _read_source(self) -> str:
        row = self._db.execute("SELECT source FROM counting").fetchone()
        return str(row[0]) if row and row[0] else self._renew_source()

    def _renew_source(self) -> str:
        source = uuid.uuid4().hex
        changed = self._db.execute("UPDATE counting SET source = ?", (source,)).rowcount
        if not changed:
            self._db.execute("INSERT INTO counting VALUES (?, 0, 0)", (source,))
        return source

    @mending
    def find_pending(self, limit: int) -> list[Pending]:
        """Windows with counts that the server does not know, the oldest first, of one source."""
        with self.lock:
            rows = self._db.execute(
                "SELECT id, source, model, model_version, start, seconds, baseline, widths, "
                "revision, counts FROM summary WHERE revision > sent ORDER BY id LIMIT ?",
                (limit,),
            ).fetchall()
        return [
            Pending(row[0], row[1], WindowKey(*row[2:8]), row[8], json.loads(row[9]))
            for row in rows
            if row[1] == rows[0][1]
        ]

    @mending
    def mark_sent(self, sent: list[Pending], *, refused: int, now_s: float) -> None:
        """Notes what the server has, and forgets what is too old to change."""
        with self.lock, self.file.transaction():
            self._db.executemany(
                "UPDATE summary SET sent = MAX(sent, ?) WHERE id = ?",
                [(item.revision, item.number) for item in sent],
            )
            self.file.count("refused_windows", refused)
            self._forget(
                "(revision <= sent AND start + seconds < ?) OR start + seconds < ?",
                int(now_s - SETTLED_S),
                int(now_s - KEEP_S),
            )

    def read_counting(self) -> tuple[int, int]:
        """Seconds between summaries and of a window, as the server last said; 0 for none."""
        with self.lock:
            row = self._db.execute("SELECT after_s, window_s FROM counting").fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    @mending
    def keep_counting(self, after_s: int, window_s: int) -> None:
        """Makes durable what the server said."""
        with self.lock, self.file.transaction():
            self._read_source()
            self._db.execute("UPDATE counting SET after_s = ?, window_s = ?", (after_s, window_s))

    def count_waiting(self) -> int:
        """Records that are counted in windows whose newest counts the server does not know."""
        with self.lock:
            rows = self._db.execute("SELECT counts FROM summary WHERE revision > sent").fetchall()
        return sum(json.loads(row[0]).get("n", 0) for row in rows)


def _encode(counts: Counts) -> str:
    return json.dumps(counts, separators=(",", ":"), allow_nan=False)


def merge_counts(a: Counts, b: Counts) -> Counts:
    """Both together."""
    merged = dict(a)
    for name, value in b.items():
        if name in _MERGED:
            merged[name] = _merge_bins(merged.get(name, {}), value)
        elif name == "features":
            rows = dict(merged.get(name, {}))
            for feature, bins in value.items():
                rows[feature] = _merge_bins(rows.get(feature, {}), bins)
            merged[name] = rows
        else:
            merged[name] = merged.get(name, 0) + value
    return merged


def _merge_bins(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in a.keys() | b.keys()}
