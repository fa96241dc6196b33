"""CSV that people open in a spreadsheet."""

import pytest

from registry.spreadsheets import write_lines


@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1", "@a", "\tx", "\rx"])
def test_what_a_spreadsheet_would_run_is_defused(text: str) -> None:
    (_, line) = write_lines(["name"], [[text]])
    assert line.strip('\r\n"') == f"'{text}".strip("\r\n")


def test_numbers_stay_numbers_and_nothing_stays_empty() -> None:
    lines = list(write_lines(["bytes", "note"], [[-5, None], [0.25, "plain, with a comma"]]))
    assert lines == ["bytes,note\r\n", "-5,\r\n", '0.25,"plain, with a comma"\r\n']
