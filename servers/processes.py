"""The servers' processes: each with its log, its user and a way to wait until it is ready."""

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from servers.kept import LEFTOVER_SECONDS, Kept
from servers.patience import Patience, PatienceError

NOBODY = "nobody"


class ServerError(Exception):
    """A server could not be found, did not start, or ended early."""


def unprivileged() -> dict[str, Any]:
    """`Popen` arguments that drop root for `nobody`; empty for an ordinary user."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(NOBODY)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give_to_unprivileged(path: Path) -> None:
    """Let the user of `unprivileged()` own `path`."""
    account = unprivileged()
    if account:
        os.chown(path, account["user"], account["group"])


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ManagedProcess:
    """One child with its log file; `stop` ends it and waits."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log_path: Path,
        env: Mapping[str, str],
        cwd: Path,
        stop_signal: int = signal.SIGTERM,
        drop_root: bool = True,
        leftover_seconds: float = LEFTOVER_SECONDS,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._stop_signal = stop_signal
        with log_path.open("ab") as log:
            self.process = Kept(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                stop_signal=stop_signal,
                account=unprivileged() if drop_root else None,
                leftover_seconds=leftover_seconds,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def log_tail(self, lines: int = 20) -> str:
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Return once `is_ready()` holds.

        Raises:
            ServerError: the process has ended, or neither works nor is ready.
        """
        patience = Patience(f"{self.name} to be ready")
        while not is_ready():
            if not self.is_running():
                raise ServerError(
                    f"{self.name} ended with {self.process.returncode}:\n{self.log_tail()}"
                )
            try:
                patience.look((self.process.work_ticks(), self.log_path.stat().st_size))
            except PatienceError as error:
                raise ServerError(f"{error}\n{self.log_tail()}") from error
            time.sleep(0.02)

    def stop(self, *, timeout_seconds: float = 30.0) -> None:
        """Ask politely, then kill; a process that is gone already is fine."""
        if self.is_running():
            self.process.send_signal(self._stop_signal)
            try:
                self.process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.process.end()


def is_listening(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
