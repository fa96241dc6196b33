"""The table of attacks names tests that there are."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.attacks.__main__ import outcome, read_report, write_table
from benchmarks.attacks.cases import ATTACKS, Attack

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("named", sorted({test for attack in ATTACKS for test in attack.tests}))
def test_each_named_test_is_there(named: str) -> None:
    file, _, name = named.partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not name or name in functions


def test_a_case_that_failed_or_was_left_out_is_never_called_held(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.a.test_b" name="test_c[1]"/>'
        '<testcase classname="tests.a.test_b" name="test_c[2]"><failure/></testcase>'
        '<testcase classname="tests.a.test_b" name="test_d"><skipped/></testcase>'
        '<testcase classname="tests.a.test_b" name="test_e"/></testsuite></testsuites>'
    )
    found = read_report(report)
    attacks = [
        Attack("x", "y", "z", (f"a/test_b.py::{name}",))
        for name in ("test_c", "test_d", "test_e", "test_none")
    ]
    ends = [outcome(attack, found) for attack in attacks]
    assert ends[0] == Counter(held=1, failed=1)
    lines = write_table(list(zip(attacks, ends, strict=True))).splitlines()[2:]
    words = [line.split("|")[-2].strip() for line in lines]
    assert words == ["1 held, 1 failed", "1 skipped", "held", "no test ran"]
