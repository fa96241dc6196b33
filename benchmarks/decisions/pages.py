"""Writes what was simulated into the pages that speak of it, between two marks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.decisions.aims import write_aim

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN, END = "<!-- figures of make bench-decisions -->", "<!-- end of figures -->"
#: A page, and how the names of its figures begin.
PAGES = {
    "gates.md": ("gate_", "failure_", "peer_", "class_", "many_class_", "rule_", "plan_"),
    "drift.md": ("fleet_", "evidently_", "season_", "nannyml_", "device_", "stream_"),
}


def write_pages(figures: Mapping[str, float], folder: Path = DOCS) -> None:
    """Puts a table of the figures into each page.

    Raises:
        ValueError: a figure belongs to no page, or a page has no marks.
    """
    lost = [key for key in figures if not any(key.startswith(names) for names in PAGES.values())]
    if lost:
        raise ValueError(f"no page speaks of {', '.join(lost)}")
    for page, names in PAGES.items():
        path = folder / page
        text = path.read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{page}: expected the marks {BEGIN} and {END}")
        table = write_table({k: v for k, v in figures.items() if k.startswith(names)})
        path.write_text(f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8")


def write_table(figures: Mapping[str, float]) -> str:
    """The figures in Markdown, those with an aim first."""
    rows = sorted(figures.items(), key=lambda item: not write_aim(item[0], item[1]))
    lines = ["| Figure | Simulated | Aim |", "|---|---|---|"]
    lines += [f"| `{key}` | {value:,.2f} | {write_aim(key, value) or '–'} |" for key, value in rows]
    return "\n".join(lines) + "\n"
