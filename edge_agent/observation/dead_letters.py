"""Dead letters: records that the server refuses, kept for a person, within a cap and counted.

A dead letter keeps its place in the order, its time and every id it was sent under. So one that is
put back is counted once, even if the server had stored it all along.
"""

import json
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from edge_agent.observation.spool_file import SpoolFile, mending

SHARE = 16
"""Of the spool's bytes, one in so many may be taken by dead letters."""
MAX_REPLACED = 64
"""Ids that a batch names as those it replaces; the protocol takes no more."""


class DeadLetters:
    """The table of dead letters (`refused`); shares the spool's database and its lock."""

    def __init__(self, file: SpoolFile, lock: threading.RLock, max_rows: int) -> None:
        self.file = file
        self.lock = lock
        self._max_rows = max_rows
        self._max_bytes = file.budget_bytes // SHARE

    def add(
        self, batch_id: str, rows: Sequence[tuple[int, str]], reasons: Sequence[str], replaces: str
    ) -> None:
        """Takes the `(priority, body)` of a batch, each with its reason; inside a transaction."""
        now = time.time()
        self.file.db.executemany(
            "INSERT INTO refused (batch_id, reason, body, replaces, priority, at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [
                (batch_id, reason[:300], body, replaces, priority, now)
                for (priority, body), reason in zip(rows, reasons, strict=True)
            ],
        )
        self.file.count("refused", len(rows))
        self._enforce_cap()

    @mending
    def rows(self) -> list[dict[str, Any]]:
        """The dead letters, the oldest first: `id`, `at` (Unix seconds), `reason`, `record`."""
        with self.lock:
            rows = self.file.db.execute("SELECT id, at, reason, body FROM refused ORDER BY id")
            return [
                {"id": number, "at": at, "reason": reason, "record": json.loads(body)}
                for number, at, reason, body in rows.fetchall()
            ]

    @mending
    def count(self) -> int:
        with self.lock:
            (number,) = self.file.db.execute("SELECT COUNT(*) FROM refused").fetchone()
        return int(number)

    @mending
    def requeue(self, ids: Sequence[int] | None = None) -> int:
        """Puts records back in line, after everything that waits; None takes all. How many."""
        with self.lock, self.file.transaction():
            chosen = self._choose(ids)
            fresh: dict[str, str] = {}
            for number, batch_id, body, replaces, priority in chosen:
                if batch_id not in fresh:
                    fresh[batch_id] = uuid.uuid4().hex
                    chain = [*json.loads(replaces or "[]"), batch_id][-MAX_REPLACED:]
                    self.file.db.execute(
                        "INSERT INTO batch (batch_id, replaces, is_requeued) VALUES (?, ?, 1)",
                        (fresh[batch_id], json.dumps(chain)),
                    )
                self.file.db.execute(
                    "INSERT INTO record (priority, body, batch_id) VALUES (?, ?, ?)",
                    (priority or 0, body, fresh[batch_id]),
                )
                self.file.db.execute("DELETE FROM refused WHERE id = ?", (number,))
            self.file.note_rows(len(chosen))
        return len(chosen)

    @mending
    def discard(self, ids: Sequence[int] | None = None) -> int:
        """Deletes records for good and counts them; None takes all. How many."""
        with self.lock, self.file.transaction():
            chosen = self._choose(ids)
            self.file.db.executemany(
                "DELETE FROM refused WHERE id = ?", [row[:1] for row in chosen]
            )
            self.file.count("aside_dropped", len(chosen))
        return len(chosen)

    def _choose(self, ids: Sequence[int] | None) -> list[tuple[Any, ...]]:
        rows = self.file.db.execute(
            "SELECT id, batch_id, body, replaces, priority FROM refused ORDER BY id"
        ).fetchall()
        return rows if ids is None else [row for row in rows if row[0] in set(ids)]

    def _enforce_cap(self) -> None:
        """Drops the oldest past the cap of rows or of bytes."""
        sizes = self.file.db.execute(
            "SELECT id, LENGTH(body) FROM refused ORDER BY id DESC"
        ).fetchall()
        total = 0
        for index, (number, size) in enumerate(sizes):
            total += size
            if index >= self._max_rows or total > self._max_bytes:
                dropped = self.file.db.execute(
                    "DELETE FROM refused WHERE id <= ?", (number,)
                ).rowcount
                self.file.count("aside_dropped", dropped)
                return
