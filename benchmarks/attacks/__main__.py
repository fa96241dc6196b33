"""`python -m benchmarks.attacks [--write PATH]`: every attack, in one run of its tests."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from collections import Counter
from pathlib import Path

from benchmarks.attacks.cases import ATTACKS, Attack
from servers.kept import run

ROOT = Path(__file__).resolve().parents[2]


def run_tests(report: Path) -> int:
    """The exit status of one run of every test that an attack names."""
    named = sorted({test for attack in ATTACKS for test in attack.tests})
    # A file that is named whole covers its own tests.
    files = {test for test in named if "::" not in test}
    nodes = [test for test in named if test in files or test.split("::")[0] not in files]
    command = [sys.executable, "-m", "pytest", "-q", "--disable-warnings", f"--junitxml={report}"]
    done = run([*command, *(f"tests/{node}" for node in nodes)], cwd=ROOT)
    print(done.stdout[-3000:])
    return done.returncode


def read_report(report: Path) -> Counter[tuple[str, str, str]]:
    """How many cases of (file, test) ended as `held`, `failed` or `skipped`."""
    found: Counter[tuple[str, str, str]] = Counter()
    for case in xml.parse(report).getroot().iter("testcase"):  # noqa: S314  (pytest's own)
        file = case.get("classname", "").removeprefix("tests.").replace(".", "/") + ".py"
        test = case.get("name", "").partition("[")[0]
        kinds = {child.tag for child in case}
        end = (
            "skipped"
            if "skipped" in kinds
            else "failed"
            if kinds & {"failure", "error"}
            else "held"
        )
        found[file, test, end] += 1
    return found


def outcome(attack: Attack, found: Counter[tuple[str, str, str]]) -> Counter[str]:
    """How many cases of the attack ended in which way."""
    ends: Counter[str] = Counter()
    for named in attack.tests:
        file, _, test = named.partition("::")
        for (of_file, of_test, end), count in found.items():
            if of_file == file and test in ("", of_test):
                ends[end] += count
    return ends


def write_table(rows: list[tuple[Attack, Counter[str]]]) -> str:
    """The table of the page and of the terminal."""
    lines = [
        "| Attacker has | Tries | What must hold | Cases | Result |",
        "|---|---|---|---|---|",
    ]
    for attack, ends in rows:
        held = ends["held"] and not ends["failed"] and not ends["skipped"]
        words = "held" if held else ", ".join(f"{count} {end}" for end, count in ends.items())
        lines.append(
            f"| {attack.who} | {attack.tries} | {attack.holds} | {ends.total()} | "
            f"{words or 'no test ran'} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--write", type=Path, help="write the page there")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status = run_tests(report)
        found = read_report(report)
    rows = [(attack, outcome(attack, found)) for attack in ATTACKS]
    table = write_table(rows)
    print(table)
    if arguments.write:
        arguments.write.write_text(
            "# Attacks\n\nWritten by `make bench-attacks`. Each row is carried out against real "
            f"servers; `benchmarks/attacks/cases.py` names the tests.\n\n{table}\n",
            encoding="utf-8",
        )
    held = [row for row in rows if row[1]["held"] == row[1].total() > 0]
    figures = {
        "attacks": len(rows),
        "attacks_held": len(held),
        "cases": sum(row[1].total() for row in rows),
        "cases_failed": sum(row[1]["failed"] for row in rows),
        "cases_skipped": sum(row[1]["skipped"] for row in rows),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(figures))
    return status or len(held) != len(rows)


if __name__ == "__main__":
    sys.exit(main())
