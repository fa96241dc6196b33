"""What the kernel holds the child to, asked of real processes."""

import errno
import json
import os
import subprocess
import sys

import pytest

from compression.engine.limits import OPEN_FILES, describe_failure, pick_cpus

LIMITS = {"memory_bytes": 1024**3, "wall_seconds": 60, "threads": 2}
_ASK = """
import json, os, resource, sys
from compression.engine.limits import limit_process
limit_process(json.loads(sys.argv[1]), slot=0)
names = ("AS", "CPU", "FSIZE", "CORE", "NOFILE", "NPROC")
found = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0] for name in names}
print(json.dumps({**found, "cpus": len(os.sched_getaffinity(0))}))
"""


def run_limited(code, **over):
    limits = json.dumps({**LIMITS, **over})
    return subprocess.run(
        [sys.executable, "-c", code, limits], capture_output=True, text=True, check=False
    )


def test_every_limit_is_set_in_the_kernel():
    found = json.loads(run_limited(_ASK, threads=1).stdout)
    assert (found["AS"], found["FSIZE"]) == (1024**3, 1024**3)
    assert (found["CPU"], found["CORE"], found["NOFILE"]) == (60, 0, OPEN_FILES)
    assert 0 < found["NPROC"] < 100_000
    assert found["cpus"] == 1


_LIMITED = """
import json, sys
from compression.engine.limits import limit_process
limit_process(json.loads(sys.argv[1]))
"""
BREACHES = {
    "memory": ("bytearray(2 * 1024**3)", {}, "MemoryError"),
    "file size": (
        "import tempfile; tempfile.TemporaryFile().truncate(2 * 1024**3)",
        {},
        "File too large",
    ),
    "open files": (
        "import os; [os.open('/dev/null', 0) for _ in range(2000)]",
        {},
        "Too many open files",
    ),
}


@pytest.mark.parametrize("case", BREACHES)
def test_the_kernel_refuses_what_is_beyond_a_limit(case):
    code, over, sign = BREACHES[case]
    answer = run_limited(_LIMITED + code, **over)
    assert answer.returncode == 1
    assert sign in answer.stderr


def test_cpu_seconds_end_a_busy_process():
    answer = run_limited(_LIMITED + "while True: pass", wall_seconds=1, threads=1)
    assert answer.returncode < 0


def test_jobs_of_different_slots_are_given_different_cpus():
    allowed = {0, 1, 2, 3}
    assert pick_cpus(allowed, 2, 0) == {0, 1}
    assert pick_cpus(allowed, 2, 1) == {2, 3}
    assert pick_cpus(allowed, 2, 2) == {0, 1}
    assert pick_cpus({5}, 8, 3) == {5}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (RuntimeError("std::bad_alloc"), "out_of_memory"),
        (RuntimeError("Failed to allocate memory for requested buffer"), "out_of_memory"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "file_too_large"),
        (ValueError("no such node"), "pass_failed"),
    ],
)
def test_a_failure_names_the_limit_it_met(error, code):
    found, message = describe_failure(error, LIMITS)
    assert found == code
    assert ("limits.memory_bytes" in message) == (code != "pass_failed")
