"""Waiting that a slow or busy machine does not fail: time runs out only while nothing moves."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Without any change for so long, what is waited for is taken to hang.
QUIET_SECONDS = 300.0
#: The end of a wait in which something moves for ever and arrives nowhere.
CAP_SECONDS = 1800.0


class PatienceError(Exception):
    """What was waited for stood still for too long, or never arrived."""


class Patience:
    """A deadline that starts again whenever the state that is looked at has changed."""

    def __init__(
        self,
        what: str,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        cap_seconds: float = CAP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock.

        Args:
            what: named by the error.
            quiet_seconds: how long the state may stay the same.
            cap_seconds: how long the whole wait may take.
        """
        self._what = what
        self._quiet_seconds = quiet_seconds
        self._cap_seconds = cap_seconds
        self._clock = clock
        self._started_at = self._changed_at = clock()
        self._state: object = None

    def look(self, state: object) -> None:
        """Return while there is reason to wait on.

        Args:
            state: anything that compares: a count, a text, a tuple of both.

        Raises:
            PatienceError: the state has stood still, or moved without arriving, for too long.
        """
        now = self._clock()
        if state != self._state:
            self._state, self._changed_at = state, now
        quiet, waited = now - self._changed_at, now - self._started_at
        if quiet > self._quiet_seconds:
            raise PatienceError(
                f"{self._what}: no change for {quiet:.0f} s of {waited:.0f}; last seen: {state}"
            )
        if waited > self._cap_seconds:
            raise PatienceError(f"{self._what}: not after {waited:.0f} s; last seen: {state}")


def wait_for(
    probe: Callable[[], T],
    what: str = "the condition",
    *,
    progress: Callable[[], object] | None = None,
    interval_seconds: float = 0.05,
    quiet_seconds: float = QUIET_SECONDS,
) -> T:
    """The first true value of `probe`.

    Args:
        what: is waited for, for the error.
        progress: what moves while there is hope; by default the values of `probe` themselves.
        interval_seconds: between two calls of `probe`.

    Raises:
        PatienceError: nothing moved for `quiet_seconds`, or the condition never held.
    """
    patience = Patience(what, quiet_seconds=quiet_seconds)
    while not (value := probe()):
        patience.look(value if progress is None else progress())
        time.sleep(interval_seconds)
    return value
