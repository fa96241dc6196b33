"""A command run as a lesser processor sees that processor; nothing else does."""

import os
import re
import subprocess
import sys

import pytest

from tests.processors.__main__ import CPUINFO, PROCESSORS, hide_flags, main
from tests.where_run import SHOWN_AS

LINES = "model name\t: Some\nflags\t\t: sse avx2 avx512f avx512_vnni avx_vnni amx_int8\n"
FLAGS = re.findall(r"\w+", CPUINFO.read_text("utf-8"))
IS_ABLE = "cpuid_fault" in FLAGS and os.geteuid() == 0 and SHOWN_AS not in os.environ

ASK = """
import numpy
from edge_agent.control.processor import read_instruction_sets
print(read_instruction_sets(), *numpy.show_config("dicts")["SIMD Extensions"]["found"])
"""


def test_the_flags_of_the_better_processor_go() -> None:
    shown = {name: hide_flags(LINES, hidden) for name, (_, hidden) in PROCESSORS.items()}
    assert shown["avx2"] == "model name\t: Some\nflags\t\t: sse avx2\n"
    assert shown["avx512"] == "model name\t: Some\nflags\t\t: sse avx2 avx512f\n"


@pytest.mark.parametrize("arguments", [[], ["avx2"], ["vax", "true"]], ids=str)
def test_a_processor_that_is_not_known_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "avx2|avx512" in capsys.readouterr().err


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_command_sees_the_lesser_processor_or_is_told_why_not(name: str) -> None:
    command = [sys.executable, "-m", "tests.processors", name, sys.executable, "-c", ASK]
    answer = subprocess.run(command, capture_output=True, text=True)
    if not IS_ABLE:
        assert answer.returncode == 1 and answer.stderr.startswith("error: expected")
        return
    assert answer.returncode == 0, answer.stderr
    assert "avx2" in answer.stdout and "vnni" not in answer.stdout
    has_more = name == "avx512" and "avx512f" in FLAGS
    assert ("avx512" in answer.stdout) == has_more
    # What numpy asks of the processor itself, and not of a file.
    assert ("X86_V4" in answer.stdout) == has_more
