"""Inputs from an npz: the stand-in for a camera on a bench and in the demonstration."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.config import SourceConfig
from edge_agent.exceptions import InputError

if TYPE_CHECKING:
    import numpy as np

    from edge_agent.inference.table import Table

logger = logging.getLogger(__name__)


class NpzSource:
    """Rows of the arrays, one at a time, at a steady rate; re-read when the file changes.

    There is an array for each input of the model, or `x` for the only one.
    """

    def __init__(self, config: SourceConfig, *, wait: Callable[[float], bool]) -> None:
        """`wait(seconds)` sleeps and returns True when it is time to stop."""
        self.config = config
        self.path = Path(config.path)
        self._wait = wait
        self._stamp: tuple[int, int, int] | None = None
        self._rows: Table | None = None
        self._next = 0

    def __iter__(self) -> "NpzSource":
        self._due = time.monotonic()
        return self

    def __next__(self) -> "dict[str, np.ndarray[Any, Any]]":
        """The next row: by array, the row on axis 0."""
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
            row = self._rows.take(self._next)
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
        from edge_agent.inference.table import read_table

        try:
            rows = read_table(self.path)
        except InputError as error:
            # Half-written: the rows at hand serve until the next look.
            logger.warning("source %s cannot be read: %s", self.path, error)
            return
        logger.info("source %s: %d rows of %s", self.path, len(rows), rows.describe())
        self._stamp, self._rows, self._next = stamp, rows, 0
