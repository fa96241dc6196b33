"""The server side: Valkey, web server and Celery worker, for the story and for `make run`."""

import fcntl
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO

import urllib3

from edge_agent.packaging.build_wheel import build_wheel
from servers.kept import run
from servers.processes import ManagedProcess, free_port, is_listening
from servers.valkey import ValkeyServer

REPOSITORY = Path(__file__).resolve().parent.parent
ADMIN = "admin"
PREFERRED_PORT = 8000
# The embedded default is what is shown; a developer's own servers are left alone.
_UNWANTED = ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL", "AVIARY_S3_BUCKET", "AVIARY_HTTPS")

#: Short enough that a story fits into minutes.
STORY_INTERVALS = {
    "AVIARY_POLL_SECONDS": "1",
    "AVIARY_WINDOW_SECONDS": "5",
    "AVIARY_TICK_SECONDS": "2",
}

#: One process for all, since each start of Django costs a second or two.
_PREPARE = """
import os
from django.contrib.auth import get_user_model
from django.core.management import call_command
call_command("migrate", interactive=False, verbosity=0)
call_command("publish_agent", os.environ["DEMO_WHEEL"])
users, name = get_user_model(), os.environ["DEMO_ADMIN"]
if not users.objects.filter(username=name).exists():
    users.objects.create_superuser(name, "", os.environ["DEMO_PASSWORD"])
"""


def claim_port(port: int) -> IO[str] | None:
    """A claim on a port that nobody uses, for as long as the file is open; else None.

    That nobody listens is not enough: two stacks that start together would both find it free, and
    the web server shares a port without a word.
    """
    try:
        claim = (Path(tempfile.gettempdir()) / f"aviary-port-{port}.lock").open("a")
    except OSError:  # another user's
        return None
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        claim.close()
        return None
    if is_listening(port):
        claim.close()
        return None
    return claim


class Stack:
    """Everything but the devices. `start` brings it up, `stop` ends what was started."""

    def __init__(
        self,
        home: Path,
        services: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        intervals: Mapping[str, str] = STORY_INTERVALS,
    ) -> None:
        """Chooses the address.

        Args:
            services: environment variables of stores to use in place of the embedded ones.
            intervals: environment variables of how often things happen; empty for the defaults.
            port: where to serve; None takes 8000 if it is free. Stacks that may start at the same
                time need ports of their own: the web server shares a port without a word.
        """
        self.home = home
        self._services = dict(services or {})
        self._intervals = dict(intervals)
        self.logs = home / "logs"
        self._claim: IO[str] | None = None
        if port is None:
            self._claim = claim_port(PREFERRED_PORT)
            port = free_port() if self._claim is None else PREFERRED_PORT
        self.port = port
        self.url = f"http://127.0.0.1:{self.port}"
        self.password = ""
        self._variables: dict[str, str] = {}
        self._processes: list[ManagedProcess] = []
        self._valkey: ValkeyServer | None = None

    def start(self) -> None:
        for directory in (self.home, self.logs):
            directory.mkdir(parents=True, exist_ok=True)
        environment = self._environment(self._services.get("REDIS_URL") or self._start_valkey())
        self._variables = environment
        wheel = build_wheel(self.home / "agent")
        self.password = self._remembered_password()
        facts = {"DEMO_PASSWORD": self.password, "DEMO_WHEEL": str(wheel)}
        self._manage({**environment, **facts}, "shell", "-v", "0", "-c", _PREPARE)
        web = self._run(
            "web", environment, sys.executable, "-m", "config.serve", "--host", "127.0.0.1",
            "--port", str(self.port), "--workers", "1",
        )  # fmt: skip
        self._run(
            "worker", environment, sys.executable, "-m", "celery", "-A", "config", "worker", "-B",
            "-P", "threads", "-c", "4",
            "-Q", "ticks,default,ingest,drift,samples,compression,notify", "--loglevel", "INFO",
            "--without-gossip", "--without-mingle", "--schedule", str(self.home / "beat"),
        )  # fmt: skip
        web.wait_until(self._is_healthy)

    @cached_property
    def token(self) -> str:
        """An API token of the administrator."""
        return self._manage(self._variables, "make_api_token", ADMIN, "--days", "7").strip()

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.stop()
        if self._valkey is not None:
            self._valkey.stop()
        if self._claim is not None:
            self._claim.close()

    def dead_processes(self) -> list[str]:
        return [process.name for process in self._processes if not process.is_running()]

    def _start_valkey(self) -> str:
        directory = self.home / "valkey"
        directory.mkdir(exist_ok=True)
        self._valkey = ValkeyServer(directory, is_durable=True, drop_root=False).start()
        return self._valkey.url

    def _environment(self, redis_url: str) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        environment.update(
            AVIARY_HOME=str(self.home / "server"),
            AVIARY_PUBLIC_URL=self.url,
            REDIS_URL=redis_url,
            DEMO_ADMIN=ADMIN,
            PYTHONUNBUFFERED="1",
        )
        environment.update(self._intervals)
        environment.update(self._services)
        return environment

    def _run(self, name: str, env: Mapping[str, str], *command: str | Path) -> ManagedProcess:
        process = ManagedProcess(
            name,
            command,
            log_path=self.logs / f"{name}.log",
            env=env,
            cwd=REPOSITORY,
            drop_root=False,
        )
        self._processes.append(process)
        return process

    def _manage(self, env: Mapping[str, str], *arguments: str) -> str:
        answer = run([sys.executable, "manage.py", *arguments], cwd=REPOSITORY, env=env)
        if answer.returncode:
            raise RuntimeError(f"manage.py {arguments[0]} failed:\n{answer.stderr[-2000:]}")
        return answer.stdout

    def _remembered_password(self) -> str:
        path = self.home / "admin-password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(12), encoding="utf-8")
        return path.read_text(encoding="utf-8").strip()

    def _is_healthy(self) -> bool:
        try:
            answer = urllib3.request("GET", f"{self.url}/readyz", retries=False, timeout=30.0)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200
