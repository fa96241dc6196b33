"""The server's processes, to be killed and to come back."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from types import TracebackType

from django.db import Error, close_old_connections, connection

from benchmarks.ingest.server import answers
from servers.kept import Kept
from servers.processes import free_port

WORKERS = 2
_COUNT = """
import os, time
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
import django
django.setup()
from django.db import Error, close_old_connections
from ingest import tasks
while True:
    try:
        done = tasks.aggregate_inbox() + tasks.count_summaries() + tasks.compact_rollups()
    except Error:
        done = 0
        close_old_connections()
    if not done:
        time.sleep(0.2)
"""


class Processes:
    """A web server of two processes and two that count; whoever dies is started again."""

    def __init__(self, seed: int) -> None:
        self.port = free_port()
        self._chance = random.Random(seed)
        self._turn = 0
        self._lock = threading.Lock()
        self._web: Kept | None = None
        self._workers: list[Kept] = []

    def __enter__(self) -> Processes:
        self._web = self._start_web()
        self._workers = [self._start_worker() for _ in range(WORKERS)]
        self._wait_for_web()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in (self._web, *self._workers):
            if process is not None:
                process.terminate()
                process.wait()

    def kill_next(self) -> str:
        """Kills, in turn, a worker, the web server or the database; what it was."""
        names = ("worker", "web", "worker", "database")
        name = names[self._turn % len(names)]
        self._turn += 1
        if name == "worker":
            at = self._chance.randrange(WORKERS)
            self._kill(self._workers[at])
            self._workers[at] = self._start_worker()
        elif name == "web":
            assert self._web is not None
            self._kill(self._web)
            self._web = self._start_web()
            self._wait_for_web()
        else:
            self._crash_database()
        return name

    def drain(self) -> None:
        """Until everything that was taken is counted, and one more look finds nothing."""
        from ingest.models import InboxBatch, RollUp, Summary

        while True:
            with contextlib.suppress(Error):
                if not (
                    InboxBatch.objects.pending().exists()
                    or Summary.objects.filter(is_pending=True).exists()
                    or RollUp.objects.filter(is_part=True).exists()
                ):
                    return
            close_old_connections()
            time.sleep(0.5)

    def _start_web(self) -> Kept:
        line = [sys.executable, "-m", "config.serve", "--port", str(self.port), "--workers", "2"]
        return Kept(line, env=dict(os.environ))

    def _start_worker(self) -> Kept:
        return Kept([sys.executable, "-c", _COUNT], env=dict(os.environ))

    def _wait_for_web(self) -> None:
        while not answers(self.port):
            time.sleep(0.05)

    def _kill(self, process: Kept) -> None:
        """The command itself; its keeper ends what it had started."""
        process.kill()
        process.wait()

    def _crash_database(self) -> None:
        """One of its processes by SIGKILL: it ends all others and recovers from its log."""
        close_old_connections()
        with contextlib.suppress(Error):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                    "AND pid <> pg_backend_pid() AND datname = current_database()"
                )
                pids = [row[0] for row in cursor.fetchall()]
            if pids:
                os.kill(self._chance.choice(pids), signal.SIGKILL)
        connection.close()
        while True:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                return
            except Error:
                connection.close()
                time.sleep(0.1)
