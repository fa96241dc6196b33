"""The tables of the documentation are written by the command that measures them."""

from pathlib import Path

import pytest

from benchmarks.decisions.aims import AIMS
from benchmarks.decisions.pages import BEGIN, DOCS, END, PAGES, write_pages


def make_docs(folder: Path) -> None:
    for page in PAGES:
        (folder / page).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")


def test_each_figure_goes_into_its_page_those_with_an_aim_first(tmp_path: Path) -> None:
    make_docs(tmp_path)
    write_pages(
        {"peer_argo": 12.0, "gate_right_percent_5": 97.714, "season_delay_hours": 30.0}, tmp_path
    )
    gates = (tmp_path / "gates.md").read_text()
    assert gates.startswith("before\n") and gates.endswith("after\n") and "old" not in gates
    rows = [line for line in gates.splitlines() if line.startswith("| `")]
    assert rows == ["| `gate_right_percent_5` | 97.71 | ≥ 95: met |", "| `peer_argo` | 12.00 | – |"]
    assert "| `season_delay_hours` | 30.00 | ≤ 24: MISSED |" in (tmp_path / "drift.md").read_text()


def test_nothing_is_lost_without_a_word(tmp_path: Path) -> None:
    make_docs(tmp_path)
    with pytest.raises(ValueError, match="no page speaks of strange"):
        write_pages({"strange": 1.0}, tmp_path)
    (tmp_path / "gates.md").write_text("no marks")
    with pytest.raises(ValueError, match="expected the marks"):
        write_pages({"gate_x": 1.0}, tmp_path)


def test_every_aim_has_a_page_and_every_page_its_marks() -> None:
    assert all(any(key.startswith(names) for names in PAGES.values()) for key in AIMS)
    for page in PAGES:
        text = (DOCS / page).read_text(encoding="utf-8")
        assert text.index(BEGIN) < text.index(END)
