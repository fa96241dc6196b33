"""Start what is missing, run a command, stop what was started."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from servers.kept import exit_by_signal, run_in_foreground
from servers.objects import ObjectServer
from servers.postgres import PostgresServer
from servers.valkey import ValkeyServer


@contextlib.contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    """A directory below the system's, short enough for a Unix socket and open to other users."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def running_servers(*, is_durable: bool = False) -> Iterator[tuple[dict[str, str], list[Path]]]:
    """Yield an environment in which all three servers answer, and the folders that they use.

    Args:
        is_durable: keep PostgreSQL's fsync on, for durability tests and honest benchmarks.
    """
    environment = dict(os.environ)
    folders: list[Path] = []
    with contextlib.ExitStack() as stack:

        def make_folder(name: str) -> Path:
            folders.append(stack.enter_context(temporary_directory(f"aviary-{name}-")))
            return folders[-1]

        home = make_folder("home")
        environment.setdefault("AVIARY_HOME", str(home))
        if "S3_ENDPOINT_URL" not in environment:
            objects = ObjectServer(make_folder("s3"))
            stack.callback(objects.stop)
            environment.update(objects.start().environment)
        if "REDIS_URL" not in environment:
            valkey = ValkeyServer(make_folder("valkey"))
            stack.callback(valkey.stop)
            environment["REDIS_URL"] = valkey.start().url
        if "DATABASE_URL" not in environment:
            postgres = PostgresServer(make_folder("pg"), is_durable=is_durable)
            stack.callback(postgres.stop)
            environment["DATABASE_URL"] = postgres.start().url
        yield environment, folders


def run_with_servers(command: Sequence[str], *, is_durable: bool = False) -> int:
    """Run `command` with the servers up and return its exit status."""
    # Before there is anything to stop: a signal while they start stops what is up.
    signal.signal(signal.SIGTERM, exit_by_signal)
    started = time.monotonic()
    with running_servers(is_durable=is_durable) as (environment, folders):
        print(f"servers up in {time.monotonic() - started:.2f} s", file=sys.stderr, flush=True)
        return run_in_foreground(command, env=environment, scratch=folders)
