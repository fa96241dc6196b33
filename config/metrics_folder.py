"""Where the processes of one service leave their numbers for each other.

It stands apart from `config.metrics`, because `prometheus_client` looks for the folder once, when
it is imported.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from django.conf import settings

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_held: list[int] = []


def share_folder() -> None:
    """Has the processes that this one starts share a folder, which is gone when this one ends."""
    if os.environ.get(FOLDER):
        return
    root = Path(settings.AVIARY_HOME) / "metrics"
    root.mkdir(parents=True, exist_ok=True)
    for left in root.iterdir():
        _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(dir=root))
    # The lock goes with the last process that inherits it, however they end.
    _held.append(_lock(folder))
    os.environ[FOLDER] = str(folder)
    owner = os.getpid()
    atexit.register(_remove_own, folder, owner)


def _remove_own(folder: Path, owner: int) -> None:
    """Not in a child that was forked off: the others still write."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_if_left(folder: Path) -> None:
    """Removes the folder of a service that was killed."""
    try:
        descriptor = _lock(folder)
    except OSError:
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.close(descriptor)
