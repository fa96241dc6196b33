"""Sends what the spool holds; deletes what was acknowledged; keeps dead letters.

Failed requests are of three kinds. The server says that it is busy or does not know this device:
wait. It says of each record, or of one record alone, that it will not have it: a dead letter.
Anything else, a 500 or no answer at all, may be an outage or the fault of one record;
`suspicion.py` tells them apart by what else the server takes.
"""

import json
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from edge_agent.config import SpoolConfig
from edge_agent.control.answers import Receipt, read_receipt
from edge_agent.control.client import DeviceClient
from edge_agent.exceptions import AnswerError, TransferError
from edge_agent.observation.spool import Batch, Spool
from edge_agent.observation.summaries import Pending
from edge_agent.observation.suspicion import Handling, Suspicion
from edge_agent.observation.tally import to_wire

logger = logging.getLogger(__name__)
BUSY = frozenset({429, 503})
UNKNOWN_DEVICE = frozenset({401, 403})
DEFINITE = frozenset({400, 415, 422})
"""Answers to a request that asking again would bring again."""

WINDOWS_A_POST = 100


class Uploader:
    def __init__(
        self,
        client: DeviceClient,
        spool: Spool,
        config: SpoolConfig,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.spool = spool
        self.batch_records = config.batch_records
        self.limit = config.batch_records
        self.suspicion = Suspicion(
            least_failures=config.suspect_failures, least_span_s=config.suspect_span_s
        )
        self._monotonic = monotonic
        self._probes: set[str] = set()

    def upload_records(self, *, max_batches: int = 20) -> int:
        """Sends up to `max_batches` batches; returns the records accepted.

        Raises:
            TransferError: the server cannot take something now (429 and 503 with how long to wait);
                nothing is lost.
        """
        accepted = 0
        refused: dict[str, TransferError] = {}
        for _ in range(max_batches):
            batch = self._pick(refused)
            if batch is None:
                break
            try:
                answer = self.client.post_records(batch.batch_id, batch.records, batch.replaces)
                receipt = read_receipt(answer.body, sent=len(batch.records))
            except TransferError as error:
                if self._settle(batch, error):
                    continue
                if not isinstance(error, AnswerError) or error.status not in DEFINITE:
                    raise
                # The server is there and reads: the rest goes on in this same round.
                refused[batch.batch_id] = error
                continue
            accepted += self._acknowledge(batch, receipt)
        if refused:
            raise next(iter(refused.values()))
        return accepted

    def _pick(self, refused: Collection[str]) -> Batch | None:
        """What is under way, then what waits; suspects now and then, and last."""
        if self.suspicion.is_turn_of_suspect():
            return self._pick_suspect(refused) or self._pick_ordinary(refused)
        return self._pick_ordinary(refused) or self._pick_suspect(refused)

    def _pick_ordinary(self, refused: Collection[str]) -> Batch | None:
        """While nothing is taken, a single row is tried in place of the suspects: enough to see
        that the server is well. Of these there are few at a time, for each keeps its id."""
        suspects = self.suspicion.suspects
        is_doubtful = bool(suspects) and not self.suspicion.is_server_well
        batch = self.spool.next_batch(
            self.limit,
            skip={*suspects, *refused},
            is_new_allowed=not is_doubtful or self.suspicion.may_probe(),
            is_probe=is_doubtful,
        )
        if batch is not None and is_doubtful:
            self._probes.add(batch.batch_id)
        return batch

    def _pick_suspect(self, refused: Collection[str]) -> Batch | None:
        for batch_id in self.suspicion.by_turn():
            if batch_id not in refused and (batch := self.spool.find_batch(batch_id)):
                return batch
        return None

    def _acknowledge(self, batch: Batch, receipt: Receipt) -> int:
        if receipt.rejected:
            logger.warning("%d records rejected: %s", receipt.rejected, receipt.reason)
        self.spool.acknowledge(
            batch.batch_id,
            uploaded=receipt.accepted + receipt.duplicates,
            rejected=receipt.rejected,
        )
        self.suspicion.note_taken(batch.batch_id)
        self._probes.discard(batch.batch_id)
        self.limit = min(self.batch_records, self.limit * 2)
        return receipt.accepted

    def _settle(self, batch: Batch, error: TransferError) -> bool:
        """True when the batch was halved or is dead letters now, so that the rest can go on."""
        rows = len(batch.records)
        is_definite = False
        if isinstance(error, AnswerError):
            rejected = error.details.get("rejected")
            if error.status == 422 and isinstance(rejected, list) and rejected:
                # Read record by record, and none of them was of use.
                self._dead_letter(batch, error, [str(item) for item in rejected])
                return True
            if error.status == 413:
                if rows == 1:
                    self._dead_letter(batch, error, [])
                    return True
                self.limit = max(1, rows // 2)
                logger.warning("batch too large; sending %d records at a time", self.limit)
                self.spool.split(batch.batch_id)
                self.suspicion.forget(batch.batch_id)
                return True
            is_known = error.status in UNKNOWN_DEVICE and error.server_code
            if error.status in BUSY or is_known:
                return False
            is_definite = error.status in DEFINITE
        now_s = self._monotonic()
        if batch.batch_id in self._probes:
            self.suspicion.note_probe_failed(batch.batch_id)
        verdict = self.suspicion.note_failure(
            batch.batch_id,
            now_s,
            rows=rows,
            is_definite=is_definite,
            is_alone=not self.spool.has_new(),
        )
        if verdict is Handling.WAIT:
            return False
        if verdict is Handling.DEAD_LETTER:
            self._dead_letter(batch, error, [])
            return True
        logger.warning("%d records are refused together; sending them by halves: %s", rows, error)
        self.suspicion.note_split(batch.batch_id, self.spool.split(batch.batch_id), now_s)
        return True

    def _dead_letter(self, batch: Batch, error: TransferError, each: list[str]) -> None:
        rows = self.spool.dead_letter(batch.batch_id, each or [str(error)])
        self.suspicion.forget(batch.batch_id)
        self._probes.discard(batch.batch_id)
        logger.error(
            "the server does not take %d records; they are dead letters now: %s", rows, error
        )

    def upload_summaries(self, *, now_s: float, max_posts: int = 20) -> int:
        """Sends what was counted since it was last sent; returns the windows the server took.

        A window that the server refuses is not sent again until more is counted in it.

        Raises:
            TransferError: the server cannot take them now; nothing is lost.
        """
        taken = 0
        for _ in range(max_posts):
            pending = self.spool.summaries.find_pending(WINDOWS_A_POST)
            if not pending:
                break
            answer = self.client.post_summaries(
                pending[0].source, [describe_window(item) for item in pending]
            )
            receipt = read_receipt(answer.body, sent=len(pending))
            if receipt.rejected:
                logger.error("%d windows are refused: %s", receipt.rejected, receipt.reason)
            self.spool.summaries.mark_sent(pending, refused=receipt.rejected, now_s=now_s)
            taken += receipt.accepted
        return taken

    def upload_events(self) -> set[str]:
        """Sends pending events; returns the assignments that the server says are aborted."""
        aborted = set()
        failed: TransferError | None = None
        for assignment_id, events in self.spool.events.pending().items():
            try:
                self.client.post_events(assignment_id, events)
            except AnswerError as error:
                if error.status == 410:
                    aborted.add(assignment_id)
                elif error.status in BUSY | UNKNOWN_DEVICE:
                    raise
                elif error.status not in (400, 404, 409, 422):
                    # What one assignment's events meet need not hold up the others'.
                    failed = failed or error
                    continue
                # Superseded, unknown or refused: sending it again brings the same answer.
                logger.warning("events of %s refused: %s", assignment_id, error)
            self.spool.events.mark_sent(assignment_id, events[-1]["seq"])
        if failed is not None:
            raise failed
        return aborted


def describe_window(pending: Pending) -> dict[str, Any]:
    """A window's summary as the server reads it."""
    key = pending.key
    summary = {
        "model": key.model,
        "model_version": key.model_version,
        "start": key.start,
        "seconds": key.seconds,
        "revision": pending.revision,
        "counts": to_wire(pending.counts, json.loads(key.widths)),
    }
    if key.baseline:
        summary["baseline"] = key.baseline
    return summary
