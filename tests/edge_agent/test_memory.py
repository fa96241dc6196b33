"""Memory that only the start needed goes back, and nothing that is needed goes with it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.memory import find_clean_code, release_code
from tests.edge_agent.publisher import make_model
from tests.edge_agent.releases import make_session

SMAPS = """\
55d0-55d1 r-xp 00001000 fe:00 100  /usr/lib/libruntime.so
Rss:                  64 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
7f00-7f20 r-xp 00000000 fe:00 101  /usr/lib/libruntime_patched.so
Rss:                 128 kB
Private_Dirty:         4 kB
Anonymous:             4 kB
7f20-7f30 r--p 00000000 fe:00 101  /usr/lib/libruntime.so
Rss:                 128 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
7f30-7f40 r-xp 00000000 fe:00 102  /usr/lib/libother.so
Rss:                 128 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
"""


def test_only_code_without_pages_of_its_own_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "smaps"
    path.write_text(SMAPS)
    assert find_clean_code(path, "libruntime") == [(0x55D0, 0x55D1, 64 << 10)]
    assert find_clean_code(tmp_path / "absent", "libruntime") == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's memory map")
def test_the_runtime_answers_alike_after_its_code_was_given_back(tmp_path: Path) -> None:
    session = make_session(tmp_path, make_model())
    row = np.ones((1, 4), dtype=np.float32)
    before = session.infer(row).outputs[0]
    assert release_code("onnxruntime") > 1 << 20
    assert (session.infer(row).outputs[0] == before).all()
    assert (make_session(tmp_path, make_model()).infer(row).outputs[0] == before).all()
