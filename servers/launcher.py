"""Start what is missing, run a command, stop what was started."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from servers.objects import ObjectServer
from servers.postgres import PostgresServer
from servers.processes import die_with_parent
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
def running_servers(*, is_durable: bool = False) -> Iterator[dict[str, str]]:
    """Yield an environment in which all three servers answer.

    Args:
        is_durable: keep PostgreSQL's fsync on, for durability tests and honest benchmarks.
    """
    environment = dict(os.environ)
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(temporary_directory("aviary-home-"))
        environment.setdefault("AVIARY_HOME", str(home))
        if "S3_ENDPOINT_URL" not in environment:
            objects = ObjectServer(stack.enter_context(temporary_directory("aviary-s3-")))
            stack.callback(objects.stop)
            environment.update(objects.start().environment)
        if "REDIS_URL" not in environment:
            valkey = ValkeyServer(stack.enter_context(temporary_directory("aviary-valkey-")))
            stack.callback(valkey.stop)
            environment["REDIS_URL"] = valkey.start().url
        if "DATABASE_URL" not in environment:
            postgres = PostgresServer(
                stack.enter_context(temporary_directory("aviary-pg-")), is_durable=is_durable
            )
            stack.callback(postgres.stop)
            environment["DATABASE_URL"] = postgres.start().url
        yield environment


def run_with_servers(command: Sequence[str], *, is_durable: bool = False) -> int:
    """Run `command` with the servers up and return its exit status."""

    def end(signal_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal_number)

    signal.signal(signal.SIGTERM, end)
    started = time.monotonic()
    with running_servers(is_durable=is_durable) as environment:
        print(f"servers up in {time.monotonic() - started:.2f} s", file=sys.stderr, flush=True)
        child = subprocess.Popen(
            list(command),
            env=environment,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        try:
            return child.wait()
        except KeyboardInterrupt:
            return child.wait()  # the terminal has sent it the same signal
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
