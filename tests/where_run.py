"""The table of machines on which the whole suite was run: read, brought up to date, written.

`make test` leaves what happened in `var/suite.json` (`record_suite`, called by `conftest.py`);
`make where-run`, which is `python -m tests.where_run`, makes a row of it; none is written by hand.
"""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compression.recipe.provenance import cpu_flags, cpu_model

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "var" / "suite.json"
DOCUMENT = ROOT / "docs" / "where-run.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- where-run -->", "<!-- /where-run -->"
HEADINGS = (
    "Processor", "Instruction sets", "Architecture", "Cores", "Python", "Commit", "Suite", "Date",
)  # fmt: skip
#: What `tests.processors` sets: the lesser processor that this one is shown as.
SHOWN_AS = "AVIARY_SHOWN_AS"
#: The kernel's names of what the INT8 kernels use, and the names of this project.
_INSTRUCTION_SETS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "vnni",
    "avx_vnni": "vnni",
    "amx_int8": "amx",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
_OUTCOMES = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")


class TableError(ValueError):
    """The table, or the result it is to be made from, is not what it has to be."""


@dataclass(frozen=True)
class Run:
    """One row: a machine, what ran on it and how it ended, each as text."""

    processor: str
    instruction_sets: str
    architecture: str
    cores: str
    python: str
    commit: str
    suite: str
    date: str

    @property
    def machine(self) -> tuple[str, str, str, str]:
        """What makes two rows speak of the same kind of machine."""
        return self.processor, self.instruction_sets, self.architecture, self.python

    @property
    def is_green(self) -> bool:
        return "passed" in self.suite and "failed" not in self.suite and "error" not in self.suite


def record_suite(
    path: Path, counts: Mapping[str, int], *, seconds: float, exit_status: int, cores: int
) -> None:
    """Write what happened, and on which machine, for `make where-run`.

    Args:
        counts: how many tests ended in each of pytest's outcomes.
        exit_status: pytest's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shown_as = os.environ.get(SHOWN_AS)
    run = Run(
        processor=cpu_model() + (f" (shown as {shown_as})" if shown_as else ""),
        instruction_sets=", ".join(name_instruction_sets(cpu_flags())) or "none of these",
        architecture=platform.machine(),
        cores=str(cores),
        python=platform.python_version(),
        commit=_read_commit(),
        suite=describe_outcome(counts, seconds=seconds, exit_status=exit_status),
        date=datetime.now(UTC).date().isoformat(),
    )
    path.write_text(json.dumps(asdict(run), indent=1), encoding="utf-8")


def name_instruction_sets(flags: Sequence[str]) -> list[str]:
    """This project's names of what the kernel calls `flags`, each once."""
    names = [_INSTRUCTION_SETS[flag] for flag in flags if flag in _INSTRUCTION_SETS]
    return list(dict.fromkeys(names))


def describe_outcome(counts: Mapping[str, int], *, seconds: float, exit_status: int) -> str:
    """Such as "2 failed, 3,010 passed, 1 skipped in 12 min 5 s"."""
    parts = [f"{counts[name]:,} {name}" for name in _OUTCOMES if counts.get(name)]
    if exit_status and not (counts.get("failed") or counts.get("error")):
        parts.insert(0, f"failed with status {exit_status}")
    minutes, rest = divmod(round(seconds), 60)
    return f"{', '.join(parts) or 'nothing ran'} in {minutes} min {rest} s"


def _read_commit() -> str:
    """The short commit; with a plus where the working tree differs from it."""
    answers = [
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
    ]
    if answers[0].returncode:
        return "unknown"
    return answers[0].stdout.strip() + ("+" if answers[1].stdout.strip() else "")


def read_result(path: Path) -> Run:
    """What `record_suite` wrote.

    Raises:
        TableError: there is none, or it is not whole.
    """
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Run(**{field.name: _checked_cell(row[field.name]) for field in fields(Run)})
    except OSError as error:
        raise TableError(f"no result at {path}: run `make test` first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path} is no result of `make test`: {error!r}") from error


def _checked_cell(value: object) -> str:
    text = str(value).strip()
    if not text or re.search(r"[|\n]", text):
        raise TableError(f"a cell must be one line without a bar, found {text!r}")
    return text


def parse_table(text: str) -> list[Run]:
    """The rows of the document's one table.

    Raises:
        TableError: there is no such table, or a row has not as many cells as headings.
    """
    lines = text.splitlines()
    head = _format_row(HEADINGS)
    if lines.count(head) != 1:
        raise TableError(f"expected the line {head!r} once, found it {lines.count(head)} times")
    runs = []
    for line in lines[lines.index(head) + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != len(HEADINGS):
            raise TableError(f"expected {len(HEADINGS)} cells, found {len(cells)}: {line!r}")
        runs.append(Run(*map(_checked_cell, cells)))
    return runs


def update_runs(runs: Sequence[Run], run: Run) -> list[Run]:
    """`runs` with `run` in the place of the same machine's, or at the end."""
    if any(known.machine == run.machine for known in runs):
        return [run if known.machine == run.machine else known for known in runs]
    return [*runs, run]


def write_table(text: str, runs: Sequence[Run]) -> str:
    """The document with its table replaced by `runs`."""
    parse_table(text)
    lines = text.splitlines()
    start = lines.index(_format_row(HEADINGS))
    end = start + 2
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    rows = [_format_row([str(value) for value in asdict(run).values()]) for run in runs]
    table = [_format_row(HEADINGS), "|" + "---|" * len(HEADINGS), *rows]
    return "\n".join([*lines[:start], *table, *lines[end:]]) + "\n"


def _format_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def summarise(runs: Sequence[Run]) -> str:
    """The README's sentences on the table."""
    if not runs:
        return "No machine is recorded yet."
    green = [run for run in runs if run.is_green]
    red = [run for run in runs if not run.is_green]
    parts = []
    if green:
        parts.append(f"The whole suite passed on {'; '.join(map(_describe_machine, green))}.")
    if red:
        parts.append(f"It did not pass on {'; '.join(map(_describe_machine, red))}.")
    return " ".join(parts)


def _describe_machine(run: Run) -> str:
    return f"{run.processor} ({run.architecture}: {run.instruction_sets}; Python {run.python})"


def replace_summary(text: str, summary: str) -> str:
    """The README with the sentences between its two marks replaced.

    Raises:
        TableError: the marks are not there, each once and in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise TableError(f"expected {BEGIN} and {END} once each")
    return f"{before}{BEGIN}\n{summary}\n{END}{after}"


def main() -> int:
    try:
        run = read_result(RESULT)
        runs = update_runs(parse_table(DOCUMENT.read_text("utf-8")), run)
        DOCUMENT.write_text(write_table(DOCUMENT.read_text("utf-8"), runs), encoding="utf-8")
        README.write_text(
            replace_summary(README.read_text("utf-8"), summarise(runs)), encoding="utf-8"
        )
    except TableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(_format_row([str(value) for value in asdict(run).values()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
