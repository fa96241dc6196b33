"""What a limited process is held to, asked of real processes."""

import json
import subprocess
import sys
import time

import pytest

from registry.limited_process.limits import EXTRA_DATA_BYTES, OPEN_FILES, pick_cpus
from registry.limited_process.memory import measure_process
from registry.limited_process.parent import MemoryWatch, end_group, start_process

MIB = 1024**2
LIMITS = {"memory_bytes": 1024 * MIB, "cpu_seconds": 60, "file_bytes": 1024 * MIB}
_LIMITED = """
import json, sys
from registry.limited_process.limits import limit_process
limit_process(**json.loads(sys.argv[1]))
"""
_ASK = """
import os, resource
names = ("AS", "DATA", "CPU", "FSIZE", "CORE", "NOFILE", "NPROC")
found = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0] for name in names}
print(json.dumps({**found, "cpus": len(os.sched_getaffinity(0))}))
"""


def run_limited(code, **over):
    limits = json.dumps({**LIMITS, **over})
    return subprocess.run(
        [sys.executable, "-c", _LIMITED + code, limits], capture_output=True, text=True, check=False
    )


def test_every_limit_is_set_in_the_kernel():
    found = json.loads(run_limited(_ASK, threads=1).stdout)
    assert (found["DATA"], found["FSIZE"]) == (1024 * MIB + EXTRA_DATA_BYTES, 1024 * MIB)
    assert (found["CPU"], found["CORE"], found["NOFILE"]) == (60, 0, OPEN_FILES)
    assert 0 < found["NPROC"] < 100_000
    assert found["AS"] == -1
    assert found["cpus"] == 1


BREACHES = {
    "memory": ("bytearray(3 * 1024**3)", "MemoryError"),
    "file size": (
        "import tempfile; tempfile.TemporaryFile().truncate(2 * 1024**3)",
        "File too large",
    ),
    "open files": (
        "import os; [os.open('/dev/null', 0) for _ in range(2000)]",
        "Too many open files",
    ),
}


@pytest.mark.parametrize("case", BREACHES)
def test_the_kernel_refuses_what_is_beyond_a_limit(case):
    code, sign = BREACHES[case]
    answer = run_limited(code)
    assert answer.returncode == 1
    assert sign in answer.stderr


def test_cpu_seconds_end_a_busy_process():
    assert run_limited("while True: pass", cpu_seconds=1).returncode < 0


def test_address_space_that_is_never_touched_costs_nothing(tmp_path):
    """As of a library that is larger than the memory limit."""
    large = 16 * 1024**3
    with (tmp_path / "large").open("wb") as file:
        file.truncate(large)
    code = (
        f"import mmap, os; file = os.open({str(tmp_path / 'large')!r}, os.O_RDONLY)\n"
        f"print(len(mmap.mmap(file, {large}, mmap.MAP_PRIVATE, mmap.PROT_READ)))"
    )
    assert run_limited(code).stdout.strip() == str(large)


def test_processes_of_different_slots_are_given_different_cpus():
    allowed = {0, 1, 2, 3}
    assert pick_cpus(allowed, 2, 0) == {0, 1}
    assert pick_cpus(allowed, 2, 1) == {2, 3}
    assert pick_cpus(allowed, 2, 2) == {0, 1}
    assert pick_cpus({5}, 8, 3) == {5}


def start(folder, code):
    (folder / "bomb.py").write_text(code)
    with (folder / "stderr.txt").open("wb") as stderr:
        return start_process(
            "tests.registry.run_file",
            folder / "bomb.py",
            folder=folder,
            threads=1,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )


# Each takes memory as fast as it can and without end, unless it is stopped.
BOMBS = {
    "page by page": "held = []\nwhile True: held.append(bytearray(64 * 1024))",
    "in large pieces": "held = []\nwhile True: held.append(b'x' * (128 * 1024**2))",
    "in shared memory": (
        "import mmap\nheld = []\n"
        "while True:\n"
        "    held.append(mmap.mmap(-1, 16 * 1024**2)); held[-1].write(b'x' * 16 * 1024**2)"
    ),
    "in another process": (
        "import os, time\n"
        "held = []\n"
        "if os.fork(): time.sleep(600)\n"
        "while True: held.append(bytearray(1024**2)); time.sleep(0.001)"
    ),
    "in many processes": (
        "import os, time\n"
        "[os.fork() for _ in range(3)]\n"
        "held = bytearray(b'x') * (60 * 1024**2)\n"
        "time.sleep(600)"
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_memory_bomb_is_killed_with_all_its_processes(name, tmp_path):
    process = start(tmp_path, BOMBS[name])
    try:
        with MemoryWatch(process, 256 * MIB) as watch:
            assert process.wait(timeout=120) == -9
    finally:
        end_group(process)
    assert watch.is_exceeded
    assert watch.peak_bytes > 256 * MIB
    # What was killed may still be giving its memory back.
    deadline = time.monotonic() + 60
    while _members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _members(process.pid)


def _members(session):
    table = subprocess.run(["ps", "-eo", "sid=,stat="], capture_output=True, text=True, check=True)
    rows = [line.split() for line in table.stdout.splitlines()]
    return [row for row in rows if row[0] == str(session) and not row[1].startswith("Z")]


def test_a_process_within_its_memory_is_left_alone(tmp_path):
    process = start(tmp_path, "import time; held = bytearray(b'x') * (64 * 1024**2); time.sleep(1)")
    try:
        with MemoryWatch(process, 512 * MIB) as watch:
            assert process.wait(timeout=120) == 0
    finally:
        end_group(process)
    assert not watch.is_exceeded
    assert 64 * MIB < watch.peak_bytes < 512 * MIB


def test_pages_of_a_mapped_file_are_not_counted(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(256 * MIB)
    code = (
        "import mmap, os, time\n"
        f"file = os.open({str(tmp_path / 'large')!r}, os.O_RDONLY)\n"
        f"held = mmap.mmap(file, {256 * MIB}, mmap.MAP_PRIVATE, mmap.PROT_READ)\n"
        f"total = sum(held[at] for at in range(0, {256 * MIB}, 4096))\n"
        "print('read', flush=True)\n"
        "time.sleep(600)"
    )
    process = start(tmp_path, code)
    try:
        assert process.stdout.readline() == b"read\n"
        assert 0 < measure_process(process.pid) < 64 * MIB
    finally:
        end_group(process, is_gentle=False)


def test_a_process_that_has_ended_holds_nothing():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    assert measure_process(process.pid) == 0


def test_the_process_is_given_no_secret_and_imports_nothing_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "never")
    (tmp_path / "json.py").write_text("raise SystemExit('the folder was imported')")
    process = start(tmp_path, "import json, os; print(json.dumps(dict(os.environ)))")
    output, _ = process.communicate(timeout=60)
    assert "never" not in json.loads(output).values()


def test_a_process_that_ignores_the_request_to_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("registry.limited_process.parent.GRACE_SECONDS", 0.5)
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)"
    )
    process = start(tmp_path, code)
    assert process.stdout.readline() == b"ready\n"
    end_group(process)
    assert process.returncode == -9
