"""Inputs from an npz: the stand-in for a camera on a bench and in the demonstration."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.config import SourceConfig

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)


class NpzSource:
    """Rows of the array `x`, one at a time, at a steady rate; re-read when the file changes."""

    def __init__(self, config: SourceConfig, *, wait: Callable[[float], bool]) -> None:
        """`wait(seconds)` sleeps and returns True when it is time to stop."""
        self.config = config
        self.path = Path(config.path)
        self._wait = wait
        self._stamp: tuple[int, int, int] | None = None
        self._rows: np.ndarray[Any, Any] | None = None
        self._next = 0

    def __iter__(self) -> "NpzSource":
        self._due = time.monotonic()
        return self

    def __next__(self) -> "np.ndarray[Any, Any]":
        """The next input with a batch axis of 1."""
        while True:
            delay = max(0.0, self._due - time.monotonic())
            if self._wait(delay):
                raise StopIteration
            self._due = max(self._due, time.monotonic() - 1.0) + 1.0 / self.config.rate_per_s
            self._reload()
            if self._rows is None or len(self._rows) == 0:
                if self._wait(0.5):
                    raise StopIteration
                continue
            if self._next >= len(self._rows):
                if not self.config.loop:
                    raise StopIteration
                self._next = 0
            row = self._rows[self._next : self._next + 1]
            self._next += 1
            return row

    def _reload(self) -> None:
        try:
            status = self.path.stat()
        except OSError:
            return
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp == self._stamp:
            return
        # With the first inputs, as NumPy itself: a device that waits for its model stays small.
        import zipfile

        import numpy as np

        try:
            with np.load(self.path, allow_pickle=False) as archive:
                rows = np.ascontiguousarray(archive["x"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            # Half-written: the rows at hand serve until the next look.
            logger.warning("source %s cannot be read: %s", self.path, error)
            return
        logger.info("source %s: %d inputs of shape %s", self.path, len(rows), rows.shape[1:])
        self._stamp, self._rows, self._next = stamp, rows, 0
