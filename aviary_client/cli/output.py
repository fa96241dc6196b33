"""What a command says: tables for people, JSON for programs; progress goes beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aviary_client.errors import ApiError, ClientError


class Output:
    """Where a command's words go: results to standard output, all else to standard error."""

    def __init__(self, *, is_json: bool, is_quiet: bool) -> None:
        self.is_json = is_json
        self._is_quiet = is_quiet or is_json
        self._last_percent = -1

    def show(self, value: Any, words: Callable[[Any], str]) -> None:
        """The one result of a command."""
        print(json.dumps(value, indent=2, default=str) if self.is_json else words(value))

    def table(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Rows, as a JSON list or a table of these columns."""
        found = [dict(row) for row in rows]
        if self.is_json:
            print(json.dumps(found, indent=2, default=str))
            return
        cells = [[_cell(row.get(name)) for name in columns] for row in found]
        heads = [name.replace("_", " ").upper() for name in columns]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        for line in (heads, *cells):
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(padded).rstrip())

    def line(self, value: Mapping[str, Any], words: str) -> None:
        """One of many results that come one after the other."""
        print(json.dumps(dict(value), default=str) if self.is_json else words, flush=True)

    def note(self, words: str) -> None:
        """Something on the way, for people."""
        if not self._is_quiet:
            print(words, file=sys.stderr, flush=True)

    def progress(self, verb: str) -> Callable[[int, int], None]:
        """Tells bytes on the way: on a terminal in one line, else every tenth of the whole."""

        def tell(done: int, whole: int) -> None:
            percent = 100 * done // whole if whole else 100
            if self._is_quiet or percent == self._last_percent:
                return
            is_terminal = sys.stderr.isatty()
            if not is_terminal and percent // 10 == self._last_percent // 10:
                return
            self._last_percent = percent
            words = f"{verb} {percent} % of {write_bytes(whole)}"
            end = "\n" if done == whole or not is_terminal else "\r"
            print(words, end=end, file=sys.stderr, flush=True)

        return tell

    def error(self, error: ClientError) -> None:
        """Why the command failed."""
        code = error.code
        if self.is_json:
            body = {"code": code, "message": error.message, "details": error.details}
            print(json.dumps(body, default=str), file=sys.stderr)
            return
        status = f" ({error.status} {code})" if isinstance(error, ApiError) else ""
        print(f"aviary: {error.message}{status}", file=sys.stderr)
        for name, value in error.details.items():
            rows = value if isinstance(value, list) else []
            texts = [row.get("message", "") if isinstance(row, Mapping) else row for row in rows]
            if texts:
                print(f"  {name}: {' '.join(map(str, texts))}", file=sys.stderr)


def write_bytes(size: int) -> str:
    """Bytes in a readable unit."""
    value = float(size)
    for unit in ("bytes", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={text}" for name, text in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return str(value)
