"""How much memory a process and all it has started hold."""

import contextlib
from pathlib import Path

import psutil

_OWN = ("RssAnon", "RssShmem", "VmSwap")
_ALL = ("VmRSS", "VmSwap")
_KIB = 1024


def measure_process(pid: int) -> int:
    """Bytes of memory that the kernel cannot take back from a process: its own pages, shared
    memory, and what of both was swapped out. Pages of mapped files, such as libraries and models,
    do not count. 0 for a process that has ended.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0 if Path("/proc/self/status").exists() else _measure_elsewhere(pid)
    except OSError:
        return 0
    rows = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    # Some kernels, such as gVisor's, do not tell the kinds of resident pages apart.
    names = _OWN if _OWN[0] in rows else _ALL
    return sum(int(rows[name].split()[0]) * _KIB for name in names if name in rows)


def list_descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those started by them."""
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def _measure_elsewhere(pid: int) -> int:
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0
