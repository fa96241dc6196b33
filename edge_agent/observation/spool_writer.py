"""Takes records off the hot path and commits them in groups."""

import collections
import logging
import sqlite3
import threading
from typing import Any

from edge_agent.config import SpoolConfig
from edge_agent.observation.spool import ORDINARY, Spool, encode
from edge_agent.observation.tally import Tally

logger = logging.getLogger(__name__)


class SpoolWriter(threading.Thread):
    """Commits what is put into it, by count or by time."""

    def __init__(self, spool: Spool, config: SpoolConfig, tally: Tally | None = None) -> None:
        super().__init__(name="spool", daemon=True)
        self.spool = spool
        self.tally = tally or Tally(spool)
        self.config = config
        self._since_boot = spool.clock.since_boot
        self._queue: collections.deque[tuple[int, float, dict[str, Any]]] = collections.deque()
        self._stopping = threading.Event()
        self._lost = 0

    def put(self, record: dict[str, Any], priority: int = ORDINARY) -> None:
        """Queues a record; never blocks, and drops (and counts) when the disk cannot keep up."""
        if len(self._queue) >= self.config.queue_rows:
            self._lost += 1
            return
        self._queue.append((priority, self._since_boot(), record))

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
        """Commits what is queued. What piled up while the disk was busy goes in one commit: the
        disk's wait is paid once, and a burst costs no more syncs than a trickle."""
        while self._queue:
            taken: list[tuple[int, float, dict[str, Any]]] = []
            while self._queue and len(taken) < self.config.commit_rows:
                taken.append(self._queue.popleft())
            rows, counted, lost = self.tally.sort(taken, encode)
            self._lost += lost
            try:
                self.spool.add_records(rows, counted)
            except sqlite3.Error as error:
                # A full disk may have room again; what the queue cannot hold till then is lost.
                self._put_back(taken)
                logger.error("%d records wait for the disk: %s", len(taken), error)
                break
        if self._lost:
            try:
                self.spool.count_dropped(self._lost)
                self._lost = 0
            except sqlite3.Error:
                logger.warning("%d dropped records are not counted yet", self._lost)

    def _put_back(self, rows: list[tuple[int, float, dict[str, Any]]]) -> None:
        room = max(0, self.config.queue_rows - len(self._queue))
        self._lost += max(0, len(rows) - room)
        # The newest of them: the oldest have waited in vain for longest.
        self._queue.extendleft(reversed(rows[len(rows) - room :] if room else []))

    def stop(self) -> None:
        """Flushes what is queued and ends the thread."""
        self._stopping.set()
        self.join(timeout=10)
