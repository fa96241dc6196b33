"""The table of machines is made from a real run, and says so where it did not pass."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import where_run
from tests.where_run import Run, TableError, parse_table, summarise, update_runs, write_table

EMPTY = "\n".join(
    ["# Title", "", where_run._format_row(where_run.HEADINGS), "|" + "---|" * 8, "", "After.", ""]
)
RUN = Run("AMD EPYC", "avx2", "x86_64", "2", "3.11.7", "abc1234", "9 passed in 1 min 2 s",
          "2026-01-31")  # fmt: skip


def test_the_document_of_this_project_is_such_a_table_and_the_readme_sums_it_up() -> None:
    runs = parse_table(where_run.DOCUMENT.read_text("utf-8"))
    readme = where_run.README.read_text("utf-8")
    assert where_run.replace_summary(readme, summarise(runs)) == readme
    assert where_run.DOCUMENT.relative_to(where_run.ROOT).as_posix() in readme


def test_what_is_written_is_read_again_and_nothing_around_it_changes() -> None:
    other = dataclasses.replace(RUN, processor="Cortex-A76", architecture="aarch64")
    text = write_table(EMPTY, [RUN, other])
    assert parse_table(text) == [RUN, other]
    assert text.startswith("# Title\n") and text.endswith("\n\nAfter.\n")
    assert write_table(text, []) == EMPTY


def test_a_run_on_the_same_kind_of_machine_takes_the_place_of_the_last() -> None:
    newer = dataclasses.replace(RUN, commit="def5678", date="2026-02-01")
    other = dataclasses.replace(RUN, python="3.13.1")
    assert update_runs([RUN, other], newer) == [newer, other]
    assert update_runs([RUN], other) == [RUN, other]


@pytest.mark.parametrize(
    ("counts", "exit_status", "words", "is_green"),
    [
        ({"passed": 3010, "skipped": 2}, 0, "3,010 passed, 2 skipped in 2 min 5 s", True),
        ({"passed": 9, "failed": 1}, 1, "1 failed, 9 passed in 2 min 5 s", False),
        ({"passed": 9, "error": 2}, 1, "2 error, 9 passed in 2 min 5 s", False),
        ({"passed": 9}, 2, "failed with status 2, 9 passed in 2 min 5 s", False),
        ({}, 5, "failed with status 5 in 2 min 5 s", False),
    ],
)
def test_a_run_is_green_only_when_all_passed_and_pytest_said_so(
    counts: dict[str, int], exit_status: int, words: str, is_green: bool
) -> None:
    found = where_run.describe_outcome(counts, seconds=125.2, exit_status=exit_status)
    assert found == words
    assert dataclasses.replace(RUN, suite=found).is_green is is_green


def test_the_summary_names_what_passed_and_what_did_not() -> None:
    red = dataclasses.replace(RUN, processor="N100", suite="1 failed, 8 passed in 1 min 0 s")
    assert summarise([]) == "No machine is recorded yet."
    assert summarise([RUN, red]) == (
        "The whole suite passed on AMD EPYC (x86_64: avx2; Python 3.11.7). "
        "It did not pass on N100 (x86_64: avx2; Python 3.11.7)."
    )


def test_instruction_sets_have_one_name_each() -> None:
    flags = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "sse4_2", "asimddp"]
    assert where_run.name_instruction_sets(flags) == ["avx2", "avx512", "vnni", "dotprod"]


@pytest.mark.parametrize(
    "text",
    ["", "# Title\n", EMPTY + EMPTY, EMPTY.replace("---|\n", "---|\n| a | b |\n")],
    ids=["nothing", "no table", "two tables", "a short row"],
)
def test_a_document_without_its_one_table_is_refused(text: str) -> None:
    with pytest.raises(TableError):
        parse_table(text)


@pytest.mark.parametrize(
    "content", [None, "", "{}", "[]", json.dumps({**dataclasses.asdict(RUN), "suite": "a|b"})]
)
def test_a_row_is_made_of_a_whole_result_or_not_at_all(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "suite.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TableError):
        where_run.read_result(path)


@pytest.mark.parametrize("parallel", [(), ("-n", "2")])
def test_a_real_run_records_itself(tmp_path: Path, parallel: tuple[str, ...]) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    (folder / "test_two.py").write_text(
        "def test_one(): pass\ndef test_two(): assert 0\ndef test_three(): pass\n"
    )
    result = tmp_path / "suite.json"
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *parallel,
        "-c", where_run.ROOT / "pyproject.toml", "--rootdir", tmp_path,
        "--record-suite", result, folder,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(where_run.ROOT), "DATABASE_URL": ""}
    subprocess.run(command, cwd=where_run.ROOT, env=environment, capture_output=True)
    run = where_run.read_result(result)
    assert run.suite.startswith("1 failed, 2 passed in 0 min")
    assert not run.is_green
    assert run.architecture == os.uname().machine
