"""Stops asking what does not answer.

After failures of the kind that costs time, with no success between them, calls fail at once for a
while; then one call is let through to try, and its success ends it. So a store that hangs costs one
deadline now and then and not one for every call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class Breaker:
    """One for each thing that may hang, shared by the threads of a process."""

    def __init__(
        self,
        name: str,
        *,
        trips_on: tuple[type[BaseException], ...],
        refuses_with: type[Exception],
        failures: int = 1,
        open_seconds: float = 2.0,
    ) -> None:
        """Starts closed: calls go through.

        Args:
            trips_on: errors that count as no answer.
            failures: how many of them in a row open it, for `open_seconds`.
            refuses_with: what a call that is not made raises, with a message.
        """
        self.name = name
        self._trips_on = trips_on
        self._refuses_with = refuses_with
        self._failures = failures
        self._failed = 0
        self._open_seconds = open_seconds
        self._lock = threading.Lock()
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """True while calls fail at once."""
        return time.monotonic() < self._open_until

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call; `refuses_with` is raised in place of it while the breaker is open."""
        was_open = self._admit()
        try:
            yield
        except self._trips_on as error:
            self._note_failure(was_open, error)
            raise
        if self._failed:
            with self._lock:
                self._failed, self._open_until = 0, 0.0
            if was_open:
                logger.info("%s answers again", self.name)

    def _note_failure(self, was_open: bool, error: BaseException) -> None:
        with self._lock:
            self._failed += 1
            if self._failed < self._failures:
                return
            self._open_until = time.monotonic() + self._open_seconds
            is_news = self._failed == self._failures
        if is_news and not was_open:
            logger.error("%s does not answer: %s", self.name, error)

    def _admit(self) -> bool:
        if not self._open_until:
            return False
        with self._lock:
            now = time.monotonic()
            if now < self._open_until:
                raise self._refuses_with(f"{self.name} did not answer a moment ago.")
            # This call is the trial; the others go on failing at once until it has ended.
            if not self._open_until:
                return False
            self._open_until = now + self._open_seconds
            return True
