"""One notification for each cause."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from notifications.rules.matching import LEVELS


class Verdict(Enum):
    """What becomes of an event on one channel."""

    TELL = "tell"
    SKIP = "skip"
    #: The trouble ended before anybody was told of it: nobody is told of either.
    WITHDRAW = "withdraw"


@dataclass(frozen=True)
class Told:
    """The last that a channel was given of a cause.

    Attributes:
        level: of that event.
        is_over: whether it was the end of the trouble.
        is_held: whether all of it is held by quiet hours.
    """

    level: str
    is_over: bool
    is_held: bool


def judge_event(*, cause: str, level: str, is_over: bool, last: Told | None) -> Verdict:
    """Whether a channel is to be told, by what it was told before.

    Trouble is told once, again when it grows worse, and its end once, to whom it was told.
    """
    if not cause:
        return Verdict.TELL
    stands = last is not None and not last.is_over
    if is_over:
        if not stands or last is None:
            return Verdict.SKIP
        return Verdict.WITHDRAW if last.is_held else Verdict.TELL
    if stands and last is not None and LEVELS.index(level) <= LEVELS.index(last.level):
        return Verdict.SKIP
    return Verdict.TELL
