"""What a running agent does again and again, as a list: each job by itself, none stops another."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_agent.config import NetworkConfig
from edge_agent.control.backoff import backoff_delay_s
from edge_agent.exceptions import AgentError, AnswerError, StopRequested, TransferError

logger = logging.getLogger(__name__)
MAX_WAIT_S = 1.0
MIN_WAIT_S = 0.02


@dataclass
class Job:
    """Something that is due every `interval_s` seconds; after a failure a back-off counts."""

    name: str
    """Also the key of its entry in `trouble`."""
    run: Callable[[], None]
    interval_s: Callable[[], float]
    """Asked after each run."""
    due_s: float = 0.0
    """Monotonic seconds."""
    failures: int = 0
    """In a row."""


class Schedule:
    """Runs jobs when they are due, in their order, in the caller's thread."""

    def __init__(
        self,
        jobs: Iterable[Job],
        network: NetworkConfig,
        trouble: dict[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            network: has the back-off.
            trouble: gets an entry for each job that fails; it goes when the job works again.
            clock: monotonic seconds.
        """
        self.jobs = {job.name: job for job in jobs}
        self._network = network
        self._trouble = trouble
        self._clock = clock

    def run_due(self) -> None:
        """Runs every job that is due.

        Raises:
            StopRequested: one was interrupted by the end of the process.
        """
        for job in self.jobs.values():
            if self._clock() >= job.due_s:
                self.run(job.name)

    def run(self, name: str) -> None:
        """Runs a job now, due or not."""
        job, started = self.jobs[name], self._clock()
        try:
            job.run()
        except StopRequested:
            raise
        except Exception as error:  # noqa: BLE001 the model keeps running whatever a job does
            job.failures += 1
            job.due_s = started + self._note(job, error)
        else:
            job.failures = 0
            self._trouble.pop(name, None)
            job.due_s = started + job.interval_s()

    def hurry(self, name: str) -> None:
        """Makes a job due at once, unless it waits after a failure."""
        job = self.jobs[name]
        if not job.failures:
            job.due_s = 0.0

    def delay(self, name: str, seconds: float) -> None:
        """Makes a job due in `seconds` from now."""
        self.jobs[name].due_s = self._clock() + seconds

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    def wait_s(self) -> float:
        """Seconds until something is due, at most a second."""
        soonest = min(job.due_s for job in self.jobs.values()) - self._clock()
        return max(MIN_WAIT_S, min(soonest, MAX_WAIT_S))

    def _note(self, job: Job, error: Exception) -> float:
        """Says what failed; returns the seconds until the next try."""
        retry_after_s: float | None = None
        if isinstance(error, TransferError):
            retry_after_s = error.retry_after_s
            if isinstance(error, AnswerError) and error.server_code == "device_pending":
                logger.info("waiting for a person to accept this device")
                self._trouble[job.name] = f"{error.code}: {error}"
                return job.interval_s()
            logger.warning("%s: %s", job.name, error)
        elif isinstance(error, AgentError):
            logger.error("%s: %s: %s", job.name, error.code, error)
        elif isinstance(error, OSError | sqlite3.Error):
            # A full disk or a failing card: what waits there goes on waiting.
            logger.error("%s: disk: %s", job.name, error)
        else:
            logger.exception("%s failed; going on", job.name)
        code = error.code if isinstance(error, AgentError) else "disk"
        if not isinstance(error, AgentError | OSError | sqlite3.Error):
            code = f"internal: {type(error).__name__}"
        self._trouble[job.name] = f"{code}: {error}"[:500]
        network = self._network
        return backoff_delay_s(
            job.failures,
            base_s=network.backoff_base_s,
            max_s=network.backoff_max_s,
            retry_after_s=retry_after_s,
        )
