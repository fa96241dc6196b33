"""How many jobs may run on this machine at once: one locked file per slot.

The kernel drops the lock when its holder dies, however it dies; a counter in a database would not.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings


@contextmanager
def job_slot() -> Iterator[int | None]:
    """The number of a free slot of this machine, held for the block; None when all are taken."""
    folder = Path(settings.AVIARY_HOME) / "slots"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(settings.AVIARY_JOBS_AT_ONCE):
        handle = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        try:
            yield number
        finally:
            os.close(handle)
        return
    yield None
