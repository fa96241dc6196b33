"""Figures with their units."""

import pytest

from registry.units import write_amount, write_bytes, write_count


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (63_304, "63.3 kB"), (633_000, "633 kB"), (999_999, "1.00 MB"),
     (25e8, "2.50 GB")],
)  # fmt: skip
def test_bytes_are_written_in_three_digits(size: float, words: str) -> None:
    assert write_bytes(size) == words


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (40.0, "MB", "40 MB"),
        (64_930.6, "MB", "64.9 GB"),
        (99.7, "%", "99.7 %"),
        (1200, "", "1,200"),
    ],
)
def test_an_amount_keeps_its_unit_and_at_most_one_decimal(
    value: float, unit: str, words: str
) -> None:
    assert write_amount(value, unit) == words


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 devices"), (1, "1 device"), (1234, "1,234 devices")]
)
def test_one_is_no_plural(number: int, words: str) -> None:
    assert write_count(number, "device") == words
    assert write_count(2, "canary", "canaries") == "2 canaries"
