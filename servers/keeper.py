"""Runs one command and lets nothing of it live on: neither past its end nor past its owner's.

`servers.processes.Kept` starts this file by its path, with the standard library alone. It stands
between the owner and the command, so it sees either of them go, even by SIGKILL. On Linux it is
also the "child subreaper": whatever the command starts stays below it, in any session, with any
environment, and is ended with it.

Its arguments are the numbers of two pipes. The first brings one line of JSON (the order) and then
single bytes: 1 to 64 is a signal for the command, `KILL_ALL` ends everything at once; its end means
that the owner is gone. Into the second it writes the command's process id.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

KILL_ALL = 0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IS_LINUX = sys.platform == "linux"
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
#: Between two looks whether the owner still lives, beside the pipe: a process that the owner forked
#: may hold the pipe open.
_LOOK_SECONDS = 1.0
#: Between two looks while something is being ended.
_ENDING_LOOK_SECONDS = 0.02
#: What is still there after being killed for so long cannot be ended (an uninterruptible wait).
_GIVE_UP_SECONDS = 30.0


class Keeper:
    """One command, its owner, and the way both end.

    Args:
        order: `command`; `owner` (its process id); `stop_signal`; `account` (arguments of `Popen`
            that change the user); `process_group` (one of the owner's session to join, or None for
            a session of the command's own); `owner_seconds` (what the command gets to end in once
            the owner is gone); `leftover_seconds` (what its children get once it has ended);
            `scratch` (folders to remove when the owner cannot do it any more).
        lifeline: the pipe to the owner.
    """

    def __init__(self, order: dict[str, Any], lifeline: int) -> None:
        self._order = order
        self._lifeline: int | None = lifeline
        self._status: int | None = None
        self._kill_at: float | None = None
        self._is_owner_gone = False
        self._wake, wake_write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._process = self._start()
        for number in _FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: self._send(number))

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self) -> int:
        """Wait for the end of everything; the command's status as `waitpid` gave it."""
        status = self._wait()
        self._look_at_owner()
        if self._is_owner_gone and self._order["scratch"]:
            import shutil

            for path in self._order["scratch"]:
                shutil.rmtree(path, ignore_errors=True)
        return status

    def _wait(self) -> int:
        while True:
            self._reap()
            self._look_at_owner()
            now = time.monotonic()
            if self._status is not None:
                if not descendants(os.getpid()):
                    return self._status
                if self._kill_at is None:
                    self._kill_at = now + self._order["leftover_seconds"]
            if self._kill_at is not None and now >= self._kill_at:
                self._kill_all()
                if self._status is not None:
                    return self._status
            is_ending = self._status is not None or self._kill_at is not None
            self._sleep(_ENDING_LOOK_SECONDS if is_ending else _LOOK_SECONDS)

    def _start(self) -> "subprocess.Popen[bytes]":
        group = self._order["process_group"]
        return subprocess.Popen(
            self._order["command"],
            start_new_session=group is None,
            process_group=group,
            # Should this process be killed itself, the kernel tells the command. It runs after
            # the change of user, which would clear the setting.
            preexec_fn=lambda: die_with_parent(self._order["stop_signal"], keeper_pid),
            **self._order["account"],
        )

    def _sleep(self, seconds: float) -> None:
        watched = [self._wake] if self._lifeline is None else [self._wake, self._lifeline]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._wake in ready:
            os.read(self._wake, 4096)
        if self._lifeline is not None and self._lifeline in ready:
            orders = os.read(self._lifeline, 4096)
            if not orders:
                self._lifeline = None
            for number in orders:
                if number == KILL_ALL:
                    self._kill_at = time.monotonic()
                else:
                    self._send(number)

    def _look_at_owner(self) -> None:
        if self._is_owner_gone or (
            self._lifeline is not None and os.getppid() == self._order["owner"]
        ):
            return
        self._is_owner_gone = True
        self._send(self._order["stop_signal"])
        # Nobody waits for an orderly end any more; leftovers get no time of their own.
        self._kill_at = time.monotonic() + self._order["owner_seconds"]

    def _send(self, number: int) -> None:
        if self._status is None:  # not reaped yet, so the number is still this process's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._process.pid, number)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._process.pid:
                    self._status = status
                    if self._is_owner_gone:
                        self._kill_at = time.monotonic()

    def _kill_all(self) -> None:
        """SIGKILL to everything below, again and again until nothing is left to start more."""
        give_up_at = time.monotonic() + _GIVE_UP_SECONDS
        while found := descendants(os.getpid()):
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
            self._reap()
            if time.monotonic() > give_up_at:
                print(f"keeper: could not end {sorted(found)}", file=sys.stderr)
                break
        self._reap()


def die_with_parent(signal_number: int, parent_pid: int) -> None:
    """Have the kernel signal the calling process when its parent is gone (Linux only)."""
    if _IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent_pid:  # the parent went before the setting was made
            os.kill(os.getpid(), signal_number)


def descendants(pid: int) -> set[int]:
    """Every living process below `pid`; a process that only waits to be reaped is dead."""
    parents = _list_linux() if _IS_LINUX else _list_elsewhere()
    children: dict[int, list[int]] = {}
    for child, (parent, _) in parents.items():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return {child for child in found if not parents[child][1].startswith("Z")}


def _list_linux() -> dict[int, tuple[int, str]]:
    """Parent and state of each process."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rsplit(b")", 1)[1].split()[:2]
                found[int(name)] = (int(parent), state.decode())
    return found


def _list_elsewhere() -> dict[int, tuple[int, str]]:
    table = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True)
    rows = [line.split() for line in table.stdout.splitlines()]
    return {int(pid): (int(parent), state) for pid, parent, state in rows}


def die_like(status: int) -> int:
    """Ends this process by the signal that ended another; else its exit status."""
    number = os.waitstatus_to_exitcode(status)
    if number >= 0:
        return number
    if -number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-number, signal.SIG_DFL)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), -number)
    return 128 - number


def read_order(lifeline: int) -> dict[str, Any]:
    """The first line of the pipe, read byte for byte: what follows it are signals."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(lifeline, 1)
        if not byte:
            raise SystemExit(0)  # the owner went before it had said what to run
        line += byte
    return dict(json.loads(line))


def main() -> int:
    lifeline, report = int(sys.argv[1]), int(sys.argv[2])
    if _IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        keeper = Keeper(read_order(lifeline), lifeline)
    except OSError as error:
        os.write(report, f"{error.errno or 0} {error.strerror or error}".encode())
        return 127
    os.write(report, f"pid {keeper.pid}".encode())
    os.close(report)
    return die_like(keeper.run())


keeper_pid = os.getpid()

if __name__ == "__main__":
    sys.exit(main())
