"""Rows as CSV for people who open it in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

# Everything a spreadsheet would run as a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_lines(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Header and rows, line by line; texts that a spreadsheet would run as formulas are defused."""
    for row in chain([header], rows):
        buffer = io.StringIO()
        csv.writer(buffer).writerow([_defuse(cell) for cell in row])
        yield buffer.getvalue()


def _defuse(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS):
        return f"'{cell}"
    return cell
