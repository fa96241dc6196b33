"""What a release was asked lately, and what came of it: evidence for the watch on a young one."""

import collections
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.inference.session import Inputs

MAX_INPUTS = 64
MAX_BYTES = 4 << 20


@dataclass
class Traffic:
    """What a release has done since it was put in place."""

    inferences: int = 0
    errors: int = 0
    non_finite: int = 0


class RecentInputs:
    """Copies of the last inputs, for a caller may fill the same buffer again; the oldest go first.

    At most MAX_INPUTS and MAX_BYTES, but one always: it is kept only while a release is watched.
    """

    def __init__(self) -> None:
        self._kept: collections.deque[tuple[int, Inputs]] = collections.deque(maxlen=MAX_INPUTS)

    def add(self, inputs: "Inputs") -> None:
        if isinstance(inputs, dict):
            size = sum(array.nbytes for array in inputs.values())
            copy: Inputs = {name: array.copy() for name, array in inputs.items()}
        else:
            size, copy = inputs.nbytes, inputs.copy()
        self._kept.append((size, copy))
        while len(self._kept) > 1 and sum(bytes_ for bytes_, _ in list(self._kept)) > MAX_BYTES:
            self._kept.popleft()

    def take(self) -> "Iterator[Inputs]":
        """Gives up the inputs one at a time, the oldest first."""
        while True:
            try:
                yield self._kept.popleft()[1]
            except IndexError:
                return
