"""Commands that never outlive the process that started them.

`Kept` runs a command below a keeper (`servers.keeper`), which ends the command and everything that
it started once the command or this process is gone, however it went. `run` is for commands that
end by themselves.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from servers import keeper
from servers.patience import Patience, PatienceError

_KEEPER = Path(keeper.__file__).resolve()
#: What a command gets to end in order once its owner is gone.
OWNER_SECONDS = 5.0
#: What children get to end by themselves once their command has ended.
LEFTOVER_SECONDS = 1.0


def end_with_parent() -> None:
    """Have this process sent SIGTERM when its parent is gone (Linux only)."""
    keeper.die_with_parent(signal.SIGTERM, os.getppid())


class Kept:
    """A command that ends, with everything it starts, when this process does.

    It has the methods of `subprocess.Popen` that its users need; they speak of the command itself
    and not of its keeper.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = None,
        stderr: Any = None,
        stop_signal: int = signal.SIGTERM,
        account: Mapping[str, Any] | None = None,
        is_foreground: bool = False,
        leftover_seconds: float = LEFTOVER_SECONDS,
        scratch: Sequence[Path] = (),
    ) -> None:
        """Starts the command; it runs when this returns.

        Args:
            env: as for `Popen`, like `cwd`, `stdin`, `stdout` and `stderr`.
            stop_signal: what asks the command to end in order.
            account: `unprivileged()`, to drop root.
            is_foreground: stay in this process's group, so that the terminal's Ctrl-C reaches the
                command; else it gets a session of its own.
            leftover_seconds: what its children may take to end once it has ended.
            scratch: folders to remove after it when this process is killed and cannot do so itself.

        Raises:
            OSError: the command could not be run.
        """
        self.args = [str(part) for part in command]
        order = {
            "command": self.args,
            "owner": os.getpid(),
            "stop_signal": int(stop_signal),
            "account": dict(account or {}),
            "process_group": os.getpgrp() if is_foreground else None,
            "owner_seconds": OWNER_SECONDS,
            "leftover_seconds": leftover_seconds,
            "scratch": [str(path) for path in scratch],
        }
        self._lifeline: int | None = None
        read_end, self._lifeline = os.pipe()
        answer, report = os.pipe()
        try:
            self._keeper = subprocess.Popen(
                # Isolated and without site-packages: it is up in a few hundredths of a second.
                [sys.executable, "-I", "-S", _KEEPER, str(read_end), str(report)],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=None if env is None else dict(env),
                cwd=cwd,
                pass_fds=(read_end, report),
                # Out of the way of a signal to this process's group.
                start_new_session=not is_foreground,
                process_group=0 if is_foreground else None,
            )
        finally:
            os.close(read_end)
            os.close(report)
        self.stdin, self.stdout, self.stderr = (
            self._keeper.stdin, self._keeper.stdout, self._keeper.stderr,
        )  # fmt: skip
        os.write(self._lifeline, json.dumps(order).encode() + b"\n")
        with os.fdopen(answer, encoding="utf-8") as file:
            word, _, rest = file.read().partition(" ")
        if word != "pid":
            status = self._keeper.wait()
            self._close_lifeline()
            raise OSError(int(word or 0), rest or f"the keeper ended with {status}", self.args[0])
        #: The command's own process id, and that of its session if it has one.
        self.pid = int(rest)

    @property
    def returncode(self) -> int | None:
        return self._keeper.returncode

    def poll(self) -> int | None:
        """None while the command or anything it started runs, else the command's status."""
        return self._keeper.poll()

    def wait(self, timeout: float | None = None) -> int:
        """As for `Popen`; with everything that the command started."""
        return self._keeper.wait(timeout)

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        return self._keeper.communicate(timeout=timeout)

    def send_signal(self, number: int) -> None:
        """To the command; nothing happens once it has ended."""
        self._tell(int(number))

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the command alone; the keeper sees to its children."""
        self.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """SIGKILL to the command and everything below it; return when it is gone."""
        self._tell(keeper.KILL_ALL)
        self._keeper.wait()

    def work_ticks(self) -> int:
        """Processor time of all that runs below the keeper, in the kernel's ticks."""
        return sum(map(_read_ticks, keeper.descendants(self._keeper.pid)))

    def _tell(self, number: int) -> None:
        if self._keeper.poll() is None and self._lifeline is not None:
            try:
                os.write(self._lifeline, bytes([number]))
            except BrokenPipeError:
                self._keeper.wait()

    def __del__(self) -> None:
        self._close_lifeline()  # what nobody holds any more is ended

    def _close_lifeline(self) -> None:
        lifeline, self._lifeline = self.__dict__.get("_lifeline"), None
        if lifeline is not None:
            os.close(lifeline)


def _read_ticks(pid: int) -> int:
    """Of a process and of its children that have ended; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return 0
    return sum(int(field) for field in fields[11:15])


def run(
    command: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Any = subprocess.DEVNULL,
) -> subprocess.CompletedProcess[str]:
    """What the command printed and how it ended; waited for as long as it works.

    Raises:
        PatienceError: it used no processor time for `patience.QUIET_SECONDS`, or ran for
            `patience.CAP_SECONDS`; it has been ended.
    """
    process = Kept(
        command, cwd=cwd, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    patience = Patience(" ".join(process.args[-6:]))
    while True:
        try:
            out, error = process.communicate(timeout=1.0)
        except subprocess.TimeoutExpired:
            try:
                patience.look(process.work_ticks())
            except PatienceError:
                process.end()
                raise
            continue
        assert process.returncode is not None
        return subprocess.CompletedProcess(
            process.args,
            process.returncode,
            out.decode("utf-8", "replace"),
            error.decode("utf-8", "replace"),
        )


def run_in_foreground(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, scratch: Sequence[Path] = ()
) -> int:
    """Run `command` on this terminal and return its exit status; SIGTERM ends it in order."""
    signal.signal(signal.SIGTERM, exit_by_signal)
    child = Kept(command, env=env, stdin=None, is_foreground=True, scratch=scratch)
    try:
        return child.wait()
    except KeyboardInterrupt:
        return child.wait()  # the terminal has sent it the same signal
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def exit_by_signal(signal_number: int, _frame: FrameType | None) -> None:
    """A handler under which every `finally` still runs."""
    raise SystemExit(128 + signal_number)


def main() -> int:
    """`python -m servers.kept CMD [ARG...]`: nothing that CMD starts outlives it or its caller."""
    if not sys.argv[1:]:
        print(main.__doc__, file=sys.stderr)
        return 2
    end_with_parent()
    return run_in_foreground(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
