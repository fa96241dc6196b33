"""Which batch is to blame, when the server fails to take one. No I/O and no clock.

A request that fails says nothing yet: the server may be down for everybody, or may stumble over one
record. The difference is what else it takes meanwhile. So a batch that keeps failing becomes a
suspect and is passed over for a while; something else goes up in its place; and only a suspect that
fails again after the server took something else is to blame. It is halved until one record is left,
and that one becomes a dead letter. While nothing at all is taken, as in an outage, nobody is to
blame.
"""

import enum
from dataclasses import dataclass

MAX_PROBES = 8
"""Failed probes after which nothing new is tried until something was taken."""


PATIENCE = 3
"""Requests that are taken before the next suspect has its turn, even if more is waiting; one more
for each time that it failed, lest a fault that comes every so many requests always meets it."""


class Handling(enum.Enum):
    WAIT = "wait"
    SPLIT = "split"
    DEAD_LETTER = "dead_letter"


@dataclass
class Record:
    """What is known of one batch that failed."""

    failures: int
    first_s: float
    last: int
    """Number of the request that failed last, of all requests."""
    is_part: bool = False
    """Half of a batch that was to blame: one failure makes it a suspect."""


class Suspicion:
    def __init__(self, *, least_failures: int, least_span_s: float) -> None:
        """
        Args:
            least_failures: failures in a row before a batch is a suspect.
            least_span_s: and seconds between the first of them and the last.
        """
        self.least_failures = least_failures
        self.least_span_s = least_span_s
        self._failed: dict[str, Record] = {}
        self._suspects: set[str] = set()
        self._requests = 0
        self._taken = -1
        """Number of the last request that was taken."""
        self._probes_failed: set[str] = set()
        self._taken_since_suspect = 0

    @property
    def suspects(self) -> frozenset[str]:
        return frozenset(self._suspects)

    @property
    def is_server_well(self) -> bool:
        """True when the last request was taken, whatever failed before it."""
        return self._taken == self._requests

    def may_probe(self) -> bool:
        """Whether something new may be tried while nothing is taken."""
        return len(self._probes_failed) < MAX_PROBES

    def note_taken(self, batch_id: str) -> None:
        self._requests += 1
        self._taken = self._requests
        self._taken_since_suspect += 1
        self._probes_failed.clear()
        self.forget(batch_id)

    def note_failure(
        self,
        batch_id: str,
        now_s: float,
        *,
        rows: int,
        is_definite: bool = False,
        is_alone: bool = False,
    ) -> Handling:
        """What is to be done with a batch that has just failed.

        Args:
            now_s: monotonic seconds.
            rows: records in it.
            is_definite: the answer says that asking again brings the same answer.
            is_alone: nothing else waits that could go up in its place; then its own halves do.
        """
        self._requests += 1
        known = self._failed.get(batch_id)
        was_taken_since = known is not None and self._taken > known.last
        record = known or Record(0, now_s, 0)
        record.failures += 1
        record.last = self._requests
        self._failed[batch_id] = record
        was_suspect = batch_id in self._suspects or record.is_part
        if was_suspect:
            self._taken_since_suspect = 0
        if is_definite or self._is_suspect(record, now_s):
            self._suspects.add(batch_id)
        if was_suspect and is_alone and rows > 1 and len(self._failed) < MAX_PROBES:
            return Handling.SPLIT
        if not (was_suspect and was_taken_since):
            return Handling.WAIT
        if rows > 1:
            return Handling.SPLIT
        is_sure = is_definite or record.failures >= self.least_failures
        return Handling.DEAD_LETTER if is_sure else Handling.WAIT

    def note_probe_failed(self, batch_id: str) -> None:
        self._probes_failed.add(batch_id)

    def note_split(self, batch_id: str, parts: tuple[str, str], now_s: float) -> None:
        """The parts are under suspicion from their first failure on."""
        self.forget(batch_id)
        for part in parts:
            self._failed[part] = Record(0, now_s, self._requests, is_part=True)

    def forget(self, batch_id: str) -> None:
        self._failed.pop(batch_id, None)
        self._suspects.discard(batch_id)

    def is_turn_of_suspect(self) -> bool:
        """True when enough else was taken since one was tried."""
        turn = self.by_turn()
        if not turn:
            return False
        return self._taken_since_suspect >= PATIENCE + self._failed[turn[0]].failures

    def by_turn(self) -> list[str]:
        """The suspects, the one that was tried longest ago first."""
        return sorted(self._suspects, key=lambda item: self._failed[item].last)

    def _is_suspect(self, record: Record, now_s: float) -> bool:
        if record.is_part:
            return True
        lasted_s = now_s - record.first_s
        return record.failures >= self.least_failures and lasted_s >= self.least_span_s
