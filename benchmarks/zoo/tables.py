"""The tables a person reads, in Markdown. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.zoo.catalogue import WHEEL_LICENCES, Entry, Packaged
from benchmarks.zoo.judging import DONE, Cell, failures_where_a_peer_succeeds, is_read_as
from benchmarks.zoo.packages import version_of
from benchmarks.zoo.product import Upload

OURS = "aviary"
BEGIN, END = "<!-- begin: made by make bench-zoo -->", "<!-- end -->"
REASON_CHARACTERS = 230


def is_task_right(entry: Entry, taken: Upload) -> bool:
    """Whether the product read the outputs rightly, by itself or by the answer to what it asked.

    Task, form, the output that is read and its activation are held against what the catalogue
    says. What it inferred wrongly counts as wrong although a person could correct it.
    """
    if not taken.is_taken:
        return False
    read = taken.first or taken.contract
    assert read is not None
    return is_read_as(
        read, task=entry.task, form=entry.form, output=entry.output, activation=entry.activation
    )


def describe_model(entry: Entry, taken: Upload, cells: Iterable[Cell], seconds: float) -> str:
    """The lines printed as soon as a model is through."""
    lines = [f"{entry.name} ({seconds:.0f} s): {_describe_upload(entry, taken)}"]
    for cell in cells:
        if cell.model == entry.name:
            lines.append(f"  {cell.tool:15}{cell.kind:9}{_describe(cell)}")
    return "\n".join(lines)


def write_page(
    entries: Sequence[Entry],
    uploads: Mapping[str, Upload],
    cells: Sequence[Cell],
    figures: Mapping[str, Any],
) -> str:
    """All tables."""
    tried = [entry for entry in entries if entry.name in uploads]
    ours = [cell for cell in cells if cell.tool == OURS]
    beaten = failures_where_a_peer_succeeds(ours, [c for c in cells if c.tool != OURS])
    parts = [
        "## Where the models come from",
        _table(("model", "kind", "source", "licence", "SHA-256"), map(_source, tried)),
        "## What became of them",
        _table(
            ("model", "upload", *_columns(cells)),
            (_matrix_row(entry, uploads[entry.name], cells, beaten) for entry in tried),
        ),
        "A cell has agreement (a) or relative error (e), times smaller, times faster. `refused` is "
        "a refusal that no peer of the kind shows to be needless; `refused wrongly` is one that a "
        "peer does. Of the uploads, "
        f"{sum(bool(uploads[entry.name].question) for entry in tried)} of {len(tried)} asked what "
        "the outputs mean, and were told what the model's documentation says.",
        "## What the product did not do, and why",
        _table(
            ("model", "kind", "state", "a peer does it", "reason"),
            (
                (cell.model, cell.kind, cell.state, "yes" if cell in beaten else "no",
                 _short(cell.reason))
                for cell in ours
                if cell.state != DONE
            ),
        ),
        "## What peers got wrong or could not do",
        _table(
            ("model", "tool", "state", "reason"),
            (
                (cell.model, cell.tool, cell.state, _short(cell.reason))
                for cell in cells
                if cell.tool != OURS and cell.state != DONE
            ),
        ),
        "Figures: " + ", ".join(f"`{name}` {value}" for name, value in figures.items()) + ".",
    ]  # fmt: skip
    return "\n\n".join(parts)


def replace_tables(page: Path, text: str) -> None:
    """Puts the tables between the page's two marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _describe_upload(entry: Entry, taken: Upload) -> str:
    if not taken.is_taken:
        return f"refused: {_short(taken.reason)}"
    contract = taken.first or taken.contract
    assert contract is not None
    read = f"{contract['task']}/{contract['form']}"
    word = "asked" if taken.question else "inferred"
    right = "" if is_task_right(entry, taken) else f", not {entry.task}/{entry.form}"
    profile = "" if taken.has_profile else ", no reference"
    return f"{word}: {read}{right}{profile}"


def _describe(cell: Cell) -> str:
    if cell.ratio is None:
        return f"{cell.state}: {_short(cell.reason)}"
    figures = (
        f"a {cell.agreement:.2f}" if cell.agreement is not None else f"e {cell.error or 0:.3f}"
    )
    speed = f" {cell.latency_ratio:.2f}x" if cell.latency_ratio is not None else ""
    said = f": {_short(cell.reason)}" if cell.reason else ""
    return f"{cell.state} {figures}, {cell.ratio:.2f}{speed}{said}"


def _columns(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(_column(cell) for cell in cells))


def _column(cell: Cell) -> str:
    return f"{cell.tool} {cell.kind}" if cell.tool == OURS else cell.tool


def _matrix_row(
    entry: Entry, taken: Upload, cells: Sequence[Cell], beaten: Sequence[Cell]
) -> tuple[str, ...]:
    own = {_column(cell): cell for cell in cells if cell.model == entry.name}
    shown = []
    for column in _columns(cells):
        cell = own[column]
        if cell.state != DONE:
            shown.append(f"{cell.state} wrongly" if cell in beaten else cell.state)
            continue
        measured = (
            f"a {cell.agreement:.2f}" if cell.agreement is not None else f"e {cell.error or 0:.2f}"
        )
        shown.append(f"{measured}, {cell.ratio:.1f}, {cell.latency_ratio or 0:.1f}")
    return entry.name, _describe_upload(entry, taken), *shown


def _source(entry: Entry) -> tuple[str, ...]:
    source = entry.source
    if isinstance(source, Packaged):
        made = f"{source.package} {version_of(source.package)}, `{source.member}`"
        return (
            entry.name, entry.field, made, WHEEL_LICENCES[source.package], f"`{source.sha256}`"
        )  # fmt: skip
    return entry.name, entry.field, source.origin, "BSD-3-Clause, Apache-2.0", "made by each run"


def _short(text: str) -> str:
    plain = " ".join(text.split()).replace("|", "/")
    return plain if len(plain) <= REASON_CHARACTERS else f"{plain[:REASON_CHARACTERS]}…"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
