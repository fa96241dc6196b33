"""What memory there is to be had, and giving back what only the start needed."""

import logging
import re
import sys
from pathlib import Path

logger = logging.getLogger(__name__)
MADV_DONTNEED, MADV_NOHUGEPAGE = 4, 15
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+\s*(.*)")


def read_available_bytes(path: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that can be had without swapping; None where `path` does not say."""
    try:
        text = path.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def release_code(name: str) -> int:
    """Unmaps the code of loaded libraries whose path has `name`; returns the bytes given back.

    What runs on is read again from the page cache, a piece at a time; what only a start needs (for
    a runtime: schemas, graph optimisers) stays out. Where the file system caches in large pieces
    this is several MB of a small process. Does nothing but on Linux.
    """
    if sys.platform != "linux":
        return 0
    import ctypes

    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    given = 0
    for start, end, resident in find_clean_code(Path("/proc/self/smaps"), name):
        libc.madvise(start, end - start, MADV_NOHUGEPAGE)
        if libc.madvise(start, end - start, MADV_DONTNEED) == 0:
            given += resident
    return given


def find_clean_code(smaps: Path, name: str) -> list[tuple[int, int, int]]:
    """(start, end, resident bytes) of executable mappings of `name` that hold no page of their own.

    A page that was written to, as by a relocation, would be lost.
    """
    found = []
    try:
        blocks = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", smaps.read_text())
    except OSError as error:
        logger.debug("no memory map: %s", error)
        return []
    for block in blocks:
        match = MAPPING.match(block)
        if match is None or match[3] != "r-xp" or name not in match[4]:
            continue
        sizes = {key: int(kb) << 10 for key, kb in re.findall(r"(?m)^(\w+):\s+(\d+) kB", block)}
        if sizes.get("Anonymous") == 0 and sizes.get("Private_Dirty") == 0:
            found.append((int(match[1], 16), int(match[2], 16), sizes["Rss"]))
    return found
