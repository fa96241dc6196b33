"""Sends what the spool holds, in order; deletes what was acknowledged."""

import logging

from edge_agent.control.client import DeviceClient
from edge_agent.exceptions import AnswerError
from edge_agent.observation.spool import Batch, Spool

logger = logging.getLogger(__name__)
NEVER = frozenset({400, 413, 415, 422})
"""Answers to a batch that asking again would bring again."""


class Uploader:
    def __init__(self, client: DeviceClient, spool: Spool, batch_records: int) -> None:
        self.client = client
        self.spool = spool
        self.batch_records = batch_records
        self.limit = batch_records

    def upload_records(self, *, max_batches: int = 20) -> int:
        """Uploads up to `max_batches` batches; returns the records accepted.

        Raises:
            TransferError: the server cannot take them now (429 and 503 with how long to wait);
                nothing is lost.
        """
        accepted = 0
        for _ in range(max_batches):
            batch = self.spool.next_batch(self.limit)
            if batch is None:
                break
            try:
                answer = self.client.post_records(batch.batch_id, batch.records)
            except AnswerError as error:
                if error.status not in NEVER:
                    raise
                self._give_in(batch, error)
                continue
            row = answer.body if isinstance(answer.body, dict) else {}
            taken = int(row.get("accepted") or 0)
            rejected = row.get("rejected") or []
            if rejected:
                logger.warning("%d records rejected: %s", len(rejected), rejected[0])
            self.spool.acknowledge(batch.batch_id, uploaded=taken, rejected=len(rejected))
            accepted += taken
            self.limit = min(self.batch_records, self.limit * 2)
        return accepted

    def _give_in(self, batch: Batch, error: AnswerError) -> None:
        """Halves a batch that is too large; sets aside one that will never be taken, so that the
        rest does not wait behind it."""
        if error.status == 413 and len(batch.records) > 1:
            # The server stored nothing of it, so its rows may go under other ids.
            self.spool.release(batch.batch_id)
            self.limit = max(1, len(batch.records) // 2)
            logger.warning("batch too large; sending %d records at a time", self.limit)
            return
        rows = self.spool.refuse(batch.batch_id, str(error))
        logger.error("server refused %d records, set aside: %s", rows, error)

    def upload_events(self) -> set[str]:
        """Sends pending events; returns the assignments that the server says are aborted."""
        aborted = set()
        for assignment_id, events in self.spool.pending_events().items():
            try:
                self.client.post_events(assignment_id, events)
            except AnswerError as error:
                if error.status == 410:
                    aborted.add(assignment_id)
                elif error.status not in (400, 404, 409, 422):
                    raise
                # Superseded, unknown or refused: sending it again brings the same answer.
                logger.warning("events of %s refused: %s", assignment_id, error)
            self.spool.mark_events_sent(assignment_id, events[-1]["seq"])
        return aborted
