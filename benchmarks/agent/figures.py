"""One figure: what was measured, what it was measured beside, and what it should be."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    `beside` is the limit or the bare library in the same run, in words; an aim of None is a fact
    that is shown and not judged.
    """

    key: str
    value: float
    unit: str
    beside: str
    aim: float | None = None
    is_more_better: bool = False

    @property
    def verdict(self) -> str:
        if self.aim is None:
            return ""
        is_met = self.value >= self.aim if self.is_more_better else self.value <= self.aim
        return "met" if is_met else "MISSED"

    @property
    def aim_words(self) -> str:
        if self.aim is None:
            return ""
        return f"{'≥' if self.is_more_better else '≤'} {self.aim:,g} {self.unit}"


def print_table(figures: Sequence[Figure]) -> None:
    rows = [("figure", "measured", "aim", "", "beside it, in the same run")]
    rows += [
        (f.key, f"{f.value:,.{_decimals(f.value)}f} {f.unit}", f.aim_words, f.verdict, f.beside)
        for f in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        print("  ".join([*cells, row[4]]).rstrip())


def _decimals(value: float) -> int:
    return 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
