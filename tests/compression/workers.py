"""Real Celery workers on the test's own database, broker and files."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from django.db import connection
from kombu import Connection

from compression import tasks
from compression.models import Job
from servers.patience import Patience
from servers.processes import ManagedProcess
from tests.live import REDIS_DATABASES

REPOSITORY = Path(__file__).resolve().parents[2]
#: Short enough that a test can wait for them.
HEARTBEAT_SECONDS, LOST_SECONDS, SWEEP_SECONDS = 1, 3, 1


class Worker:
    """One worker process with its pool; `-B` makes it sweep too."""

    def __init__(self, home: Path, name: str, *, pool: str = "threads") -> None:
        environment = {
            **os.environ,
            "AVIARY_HOME": str(home),
            "AVIARY_KEYS_DIR": str(home / "keys"),
            "DATABASE_URL": _database_url(),
            "REDIS_URL": broker_url(),
            "AVIARY_JOB_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "AVIARY_JOB_LOST_SECONDS": str(LOST_SECONDS),
            "AVIARY_JOB_SWEEP_SECONDS": str(SWEEP_SECONDS),
            # The other clocks of the server have nothing to do here.
            "AVIARY_TICK_SECONDS": "3600",
        }
        self.process = ManagedProcess(
            name,
            [
                sys.executable, "-m", "celery", "-A", "config", "worker", "-B", "-P", pool,
                "-c", "4", "-n", f"{name}@test", "-Q", "default,compression",
                "--without-gossip", "--without-mingle", "--loglevel", "INFO",
                "--schedule", home / f"beat-{name}",
            ],
            log_path=home / f"{name}.log",
            env=environment,
            cwd=REPOSITORY,
            drop_root=False,
            # What its children do when it is killed is for the tests to see.
            leftover_seconds=3600.0,
        )  # fmt: skip
        self.process.wait_until(lambda: "ready." in self.process.log_tail(50))

    @property
    def is_alive(self) -> bool:
        return self.process.is_running()

    def kill(self) -> None:
        """SIGKILL to the worker's whole session: nothing in it can tidy up."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.process.wait()

    def stop(self) -> None:
        self.process.stop()


@contextmanager
def running_worker(home: Path, name: str, *, pool: str = "threads") -> Iterator[Worker]:
    worker = Worker(home, name, pool=pool)
    try:
        yield worker
    finally:
        worker.stop()


def send(job: Job) -> None:
    """Names the job to the workers under test."""
    with Connection(broker_url()) as broker:
        tasks.run_job.apply_async([str(job.pk)], connection=broker, queue="compression")


def wait_for(job: Job, is_reached: Callable[[Job], bool]) -> Job:
    """The job once the condition holds; waited for as long as it gets on."""
    patience = Patience(f"job {job.pk}")
    while True:
        job.refresh_from_db()
        if is_reached(job):
            return job
        patience.look((job.state, job.attempts, job.progress, job.error))
        time.sleep(0.05)


def children_of(home: Path) -> list[int]:
    """Process ids of the children that run passes in this home's scratch directories."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode()
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            continue
        if "compression.engine.child" in command and str(home) in command and state != "Z":
            found.append(int(entry.name))
    return found


def broker_url() -> str:
    parts = urlsplit(os.environ["REDIS_URL"])
    return urlunsplit(parts._replace(path=f"/{REDIS_DATABASES['workers']}"))


def _database_url() -> str:
    parts = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
