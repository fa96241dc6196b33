"""What the kernel holds a limited process to. Called by the process itself, before it loads more.

Resident memory is what a machine runs out of, but Linux has no limit for it without root. So the
parent watches it (`parent.MemoryWatch`), and the kernel refuses single requests that would pass the
limit by far. Address space is not limited: numeric libraries map gigabytes that they never touch.
"""

import contextlib
import os
import resource
from pathlib import Path

OPEN_FILES = 512
EXTRA_DATA_BYTES = 1024**3
"""What a process may reserve beyond its memory limit: libraries reserve what they never touch."""
EXTRA_PROCESSES = 512
"""Beyond what the user runs already; the kernel counts threads, and per user. Root is exempt."""


def limit_process(
    *,
    memory_bytes: int,
    cpu_seconds: int,
    file_bytes: int,
    threads: int | None = None,
    slot: int = 0,
) -> None:
    """Sets data size, CPU seconds, file size, open files, processes and CPUs of this process.

    Args:
        memory_bytes: what the parent will allow to be resident; private memory beyond it and
            `EXTRA_DATA_BYTES` cannot even be asked for.
        cpu_seconds: of all threads together.
        file_bytes: no file may become larger.
        threads: as many CPUs may be used; None allows all.
        slot: limited processes of different slots on one machine are given different CPUs.
    """
    _set(resource.RLIMIT_DATA, memory_bytes + EXTRA_DATA_BYTES)
    _set(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 5)
    _set(resource.RLIMIT_FSIZE, file_bytes)
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_NOFILE, OPEN_FILES)
    if hasattr(resource, "RLIMIT_NPROC"):
        _set(resource.RLIMIT_NPROC, count_threads(os.getuid()) + (threads or 1) + EXTRA_PROCESSES)
    if threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, pick_cpus(os.sched_getaffinity(0), threads, slot))
    # Should the machine run out of memory all the same, the kernel ends this process first.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def pick_cpus(allowed: set[int], threads: int, slot: int) -> set[int]:
    """As many of the allowed CPUs as threads, starting elsewhere for every slot."""
    cpus = sorted(allowed)
    count = min(threads, len(cpus))
    return {cpus[(slot * threads + offset) % len(cpus)] for offset in range(count)}


def count_threads(user: int) -> int:
    """Threads that a user runs now; 0 where /proc does not tell."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == user:
                total += len(os.listdir(entry / "task"))
    return total


def _set(kind: int, soft: int, hard: int | None = None) -> None:
    """Lowers a limit; one that is lower already stays."""
    hard = soft if hard is None else hard
    _, ceiling = resource.getrlimit(kind)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))
