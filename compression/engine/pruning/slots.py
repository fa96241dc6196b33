"""Channel slots and which of them belong together."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64]


class SlotTable:
    """Slots in classes (union-find with path halving), some of them pinned."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._pinned: set[int] = set()
        self.pin_reasons: dict[str, int] = {}

    def make(self, count: int) -> Slots:
        """`count` new slots, each in a class of its own."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def find(self, slot: int) -> int:
        """The representative of a slot's class."""
        parents = self._parents
        while parents[slot] != slot:
            parents[slot] = parents[parents[slot]]
            slot = parents[slot]
        return slot

    def unite(self, left: Iterable[int], right: Iterable[int]) -> None:
        """Makes each pair of slots one class; both sides must be equally long."""
        for one, other in zip(left, right, strict=True):
            first, second = self.find(int(one)), self.find(int(other))
            if first != second:
                self._parents[second] = first

    def pin(self, slots: Iterable[int], reason: str) -> None:
        """Forbids dropping the classes of these slots."""
        self._pinned.update(int(slot) for slot in slots)
        self.pin_reasons[reason] = self.pin_reasons.get(reason, 0) + 1

    def pinned_classes(self) -> set[int]:
        """The representatives of all classes with a pinned slot."""
        return {self.find(slot) for slot in self._pinned}

    def keep_mask(self, slots: Slots, dropped: set[int]) -> NDArray[np.bool_]:
        """True for each slot whose class is not dropped."""
        return np.array([self.find(int(slot)) not in dropped for slot in slots], dtype=bool)
