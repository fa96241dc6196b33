"""Installation events on disk until the server has them, numbered within their assignment."""

import json
import threading
from typing import Any

from edge_agent.clock import Clock
from edge_agent.observation.spool_file import SpoolFile, mending


class EventLog:
    """The table of events (`event`); shares the spool's database and its lock."""

    def __init__(self, file: SpoolFile, lock: threading.RLock, clock: Clock) -> None:
        self.file = file
        self.lock = lock
        self.clock = clock

    @mending
    def add_event(
        self,
        assignment_id: str,
        state: str,
        code: str,
        detail: str,
        self_test: dict[str, Any] | None = None,
    ) -> None:
        """Notes an installation event with the next `seq`; one already noted is not noted again."""
        with self.lock, self.file.transaction():
            (last,) = self.file.db.execute(
                "SELECT COALESCE(MAX(seq), 0) FROM event WHERE assignment_id = ?", (assignment_id,)
            ).fetchone()
            self.file.db.execute(
                "INSERT OR IGNORE INTO event "
                "(assignment_id, seq, state, code, detail, at_monotonic_s, self_test) "
                "VALUES (?,?,?,?,?,?,?)",
                (
                    assignment_id,
                    last + 1,
                    state,
                    code,
                    detail,
                    round(self.clock.since_boot(), 3),
                    json.dumps(self_test) if self_test else None,
                ),
            )
            # Sent events stay to keep `seq` rising, but not without end.
            self.file.db.execute(
                "DELETE FROM event WHERE is_sent AND id < (SELECT MAX(id) FROM event) - 1000"
            )

    @mending
    def pending(self) -> dict[str, list[dict[str, Any]]]:
        """Unsent events per assignment, oldest assignment first."""
        with self.lock:
            rows = self.file.db.execute(
                "SELECT assignment_id, self_test, seq, state, code, detail, at_monotonic_s "
                "FROM event WHERE NOT is_sent ORDER BY id LIMIT 200"
            ).fetchall()
        grouped: dict[str, list[dict[str, Any]]] = {}
        names = ("seq", "state", "code", "detail", "at_monotonic_s")
        for assignment_id, self_test, *values in rows:
            event = dict(zip(names, values, strict=True))
            if self_test:
                event["self_test"] = json.loads(self_test)
            grouped.setdefault(assignment_id, []).append(event)
        return grouped

    @mending
    def mark_sent(self, assignment_id: str, last_seq: int) -> None:
        """Notes that the server has the events of an assignment up to `last_seq`."""
        with self.lock, self.file.transaction():
            self.file.db.execute(
                "UPDATE event SET is_sent = 1 WHERE assignment_id = ? AND seq <= ?",
                (assignment_id, last_seq),
            )

    @mending
    def count(self) -> int:
        """How many wait to be sent."""
        with self.lock:
            (number,) = self.file.db.execute(
                "SELECT COUNT(*) FROM event WHERE NOT is_sent"
            ).fetchone()
        return int(number)
