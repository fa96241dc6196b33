"""Child processes that never outlive the process that started them."""

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

NOBODY = "nobody"
_PR_SET_PDEATHSIG = 1


class ServerError(Exception):
    """A server could not be found, did not start, or ended early."""


def die_with_parent(signal_number: int) -> Callable[[], None]:
    """A `preexec_fn` that has the kernel signal the child when its parent is gone (Linux only).

    It runs after the change of user, which would clear the setting.
    """
    parent_pid = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def set_death_signal() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal_number)
            if os.getppid() != parent_pid:  # the parent went before the setting was made
                os.kill(os.getpid(), signal_number)

    return set_death_signal


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
    """One child with its log file; `stop` ends it by its own pid and waits."""

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
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._stop_signal = stop_signal
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                # Its own group: Ctrl-C reaches the owner alone, which then stops things in order.
                start_new_session=True,
                preexec_fn=die_with_parent(stop_signal),
                **(unprivileged() if drop_root else {}),
            )

    def is_running(self) -> bool:
        return self.process.poll() is None

    def log_tail(self, lines: int = 20) -> str:
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(self, is_ready: Callable[[], bool], *, timeout_seconds: float = 30.0) -> None:
        """Return once `is_ready()` holds; raise ServerError when it ends or time is up."""
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            if not self.is_running():
                raise ServerError(
                    f"{self.name} ended with {self.process.returncode}:\n{self.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.name} was not ready after {timeout_seconds:g} s:\n{self.log_tail()}"
                )
            time.sleep(0.02)

    def stop(self, *, timeout_seconds: float = 15.0) -> None:
        """Ask politely, then kill; a process that is gone already is fine."""
        if self.is_running():
            self.process.send_signal(self._stop_signal)
            try:
                self.process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def is_listening(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
