"""The layout of the product: files that can be read at one go."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PRODUCT = (
    "aviary_client",
    "compression",
    "config",
    "edge_agent",
    "fleet",
    "ingest",
    "notifications",
    "registry",
    "servers",
)
MOST_LINES = 400


def product_files() -> list[Path]:
    return [
        path
        for folder in PRODUCT
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        if "migrations" not in path.parts
    ]


def test_no_product_file_is_longer_than_a_reader_holds_in_the_head() -> None:
    files = product_files()
    assert len(files) > 600
    lengths = {
        str(path.relative_to(REPOSITORY)): len(path.read_text("utf-8").splitlines())
        for path in files
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}
