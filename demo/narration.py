"""What the person at the terminal reads: numbered chapters, lines, and a live progress line."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from servers.patience import Patience, PatienceError

T = TypeVar("T")

QUIET_SECONDS = 10.0  # between progress lines where they cannot be rewritten


class StoryError(Exception):
    """An outcome did not come."""


class Narrator:
    """Writes to standard output; on a terminal the progress line is rewritten in place."""

    def __init__(self, chapters: int) -> None:
        self._started = time.monotonic()
        self._chapters = chapters
        self._chapter = 0
        self._is_live = sys.stdout.isatty()
        self._progress_at = 0.0

    def chapter(self, title: str) -> None:
        self._chapter += 1
        print(f"\n[{self._chapter}/{self._chapters}] {title}", flush=True)

    def line(self, text: str) -> None:
        if self._is_live:
            print("\r\033[K", end="")
        print(f"  {time.monotonic() - self._started:6.1f} s  {text}", flush=True)

    def progress(self, text: str) -> None:
        elapsed = time.monotonic() - self._started
        if self._is_live:
            print(f"\r\033[K  {elapsed:6.1f} s  … {text}", end="", flush=True)
        elif elapsed - self._progress_at >= QUIET_SECONDS:
            self._progress_at = elapsed
            print(f"  {elapsed:6.1f} s  … {text}", flush=True)

    def wait_for(
        self,
        what: str,
        probe: Callable[[], tuple[T | None, str]],
        *,
        interval_seconds: float = 0.5,
    ) -> T:
        """Poll `probe` until its first value is not None; its text is shown as progress.

        There is no time to be kept: it goes on for as long as the text changes.

        Raises:
            StoryError: the text stood still for too long; the message carries it.
        """
        patience = Patience(what)
        while True:
            value, state = probe()
            if value is not None:
                return value
            self.progress(f"{what}: {state}")
            try:
                patience.look(state)
            except PatienceError as error:
                raise StoryError(str(error)) from error
            time.sleep(interval_seconds)
