"""What the kernel holds the child process to, and how a failure is put into words."""

import contextlib
import errno
import os
import resource
from pathlib import Path

OPEN_FILES = 512
#: Beyond what the user runs already; the kernel counts threads, and per user. Root is exempt.
EXTRA_PROCESSES = 512
_MEMORY_SIGNS = (
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "unable to allocate",
    "cannot allocate",
    "out of memory",
    "not enough memory",
)


def limit_process(limits: dict[str, int], *, slot: int = 0) -> None:
    """Sets address space, CPU seconds, file size, open files, processes and CPUs of this process.

    Args:
        limits: `memory_bytes`, `wall_seconds` and `threads` of the recipe. CPU seconds are the
            wall seconds of every thread; no file may be larger than the memory.
        slot: jobs of different slots on one machine are given different CPUs.
    """
    memory = limits["memory_bytes"]
    _set(resource.RLIMIT_AS, memory, memory)
    seconds = limits["wall_seconds"] * limits["threads"]
    _set(resource.RLIMIT_CPU, seconds, seconds + 5)
    _set(resource.RLIMIT_FSIZE, memory, memory)
    _set(resource.RLIMIT_CORE, 0, 0)
    _set(resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
    if hasattr(resource, "RLIMIT_NPROC"):
        most = count_threads(os.getuid()) + limits["threads"] + EXTRA_PROCESSES
        _set(resource.RLIMIT_NPROC, most, most)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, pick_cpus(os.sched_getaffinity(0), limits["threads"], slot))


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


def describe_failure(error: BaseException, limits: dict[str, int]) -> tuple[str, str]:
    """Code and message of what ended the passes."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _MEMORY_SIGNS):
        memory = limits["memory_bytes"]
        return "out_of_memory", (
            f"The model needs more than the {memory:,} bytes of address space that "
            f"limits.memory_bytes allows. {text[:500]}"
        )
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "file_too_large", (
            f"A file grew beyond the {limits['memory_bytes']:,} bytes that limits.memory_bytes "
            "allows."
        )
    return "pass_failed", text[:2000]


def _set(kind: int, soft: int, hard: int) -> None:
    """Lowers a limit; one that is lower already stays."""
    _, ceiling = resource.getrlimit(kind)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))
