"""Starting a limited process, watching its memory, and ending it with all it has started."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO

from registry.limited_process.memory import list_descendants, measure_process

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE_SECONDS = 0.05
GRACE_SECONDS = 3.0
# Searching for descendants reads the whole table of processes.
_SAMPLES_PER_SEARCH = 10


def start_process(
    module: str, argument: Path, *, folder: Path, threads: int, stdout: int, stderr: IO[bytes]
) -> subprocess.Popen[bytes]:
    """`python -m module argument` in a session of its own, without one secret of the environment.

    Nothing is imported from the folder, where the files lie that are looked at.

    Args:
        folder: working directory, home and place for temporary files.
        threads: of the numeric libraries.
    """
    count = str(threads)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        # How many threads XLA starts.
        "NPROC": count,
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", module, str(argument)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        close_fds=True,
    )


def end_group(process: subprocess.Popen[bytes], *, is_gentle: bool = True) -> None:
    """Ends a process and everything it started; harmless when it has ended already.

    Args:
        is_gentle: whether it is asked first and given `GRACE_SECONDS`.
    """
    for number in (signal.SIGTERM, signal.SIGKILL) if is_gentle else (signal.SIGKILL,):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_SECONDS)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


class MemoryWatch:
    """Kills a process group that holds more memory than it may, from a thread of its own.

    A context manager, around the life of the process.

    Attributes:
        peak_bytes: the most that was seen, all processes of the group together.
        is_exceeded: whether the group was killed for it.
    """

    def __init__(self, process: subprocess.Popen[bytes], memory_bytes: int) -> None:
        self.peak_bytes = 0
        self.is_exceeded = False
        self._process = process
        self._limit = memory_bytes
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        started: list[int] = []
        sample = 0
        # The process is waited for by the parent alone, so its number cannot be another's yet.
        while not self._is_over.wait(SAMPLE_SECONDS) and self._process.returncode is None:
            if sample % _SAMPLES_PER_SEARCH == 0:
                started = list_descendants(self._process.pid)
            sample += 1
            held = sum(map(measure_process, (self._process.pid, *started)))
            self.peak_bytes = max(self.peak_bytes, held)
            if held > self._limit:
                self.is_exceeded = True
                for pid in started:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                return


def read_tail(path: Path, size: int = 8192) -> str:
    """The last bytes of a log as text."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - size, 0))
        return file.read().decode("utf-8", "replace")
