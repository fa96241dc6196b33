"""A file system that is really full: the model goes on, the reason is told, room is enough."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.cli.doctor import examine_device
from edge_agent.config import load_config
from servers.kept import Kept
from servers.patience import wait_for
from tests.edge_agent.install.test_bad_days import read_status
from tests.edge_agent.publisher import DEVICE, MODEL, Server, make_model
from tests.edge_agent.test_run import TOML, all_records, start, write_inputs

__all__ = ["start"]
SIZE = 8 << 20


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB of its own."""
    path = tmp_path / "home"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "none", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        # `test_bad_days.py` shows the same with a limit that needs no right.
        pytest.skip(f"this user may not mount: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def toml(server: Server, tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(TOML.format(device=DEVICE, url=server.url, model=MODEL))
    write_inputs(tmp_path / "inputs.npz", 1.0)
    return path


def fill(path: Path) -> None:
    """Takes the last free byte of the file system."""
    with path.open("ab", buffering=0) as stream:
        for size in (1 << 16, 1):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError:
                continue


def test_on_a_full_disk_the_model_goes_on_and_what_comes_waits_for_room(
    server: Server, home: Path, toml: Path, start: Callable[[], Kept]
) -> None:
    first = server.publish(make_model())
    process = start()
    wait_for(lambda: len(all_records(server)) > 5)
    wait_for(lambda: MODEL in read_status(toml)["models"])
    fill(home / "filler")
    assert os.statvfs(home).f_bavail == 0
    second = server.publish(make_model(seed=1), counter=2, sequence=2)
    wait_for(lambda: "disk_full" in json.dumps(read_status(toml)["trouble"]))
    status = read_status(toml)["models"][MODEL]
    assert status["manifest_sha256"] == first
    count = status["latency"]["count"]
    wait_for(lambda: read_status(toml)["models"][MODEL]["latency"]["count"] > count)
    (disk,) = [check for check in examine_device(load_config(toml)) if check.name == "disk"]
    assert not disk.is_ok
    assert "make room" in disk.advice
    (home / "filler").unlink()
    wait_for(lambda: read_status(toml)["models"][MODEL]["manifest_sha256"] == second)
    wait_for(lambda: read_status(toml)["trouble"] == {})
    before = len(all_records(server))
    wait_for(lambda: len(all_records(server)) > before)
    assert process.poll() is None


def test_a_device_that_starts_on_a_full_disk_runs_what_it_has(
    server: Server, home: Path, toml: Path, start: Callable[[], Kept]
) -> None:
    server.publish(make_model())
    process = start()
    wait_for(lambda: len(all_records(server)) > 5)
    process.kill()
    process.wait()
    fill(home / "filler")
    process = start()
    before = len(all_records(server))
    wait_for(lambda: process.poll() is not None or answers(toml, process.pid))
    assert process.poll() is None, "it ended because the disk is full"
    (home / "filler").unlink()
    wait_for(lambda: len(all_records(server)) > before)


def answers(toml: Path, pid: int) -> bool:
    """Whether that process has classified something."""
    runtime = json.loads((toml.parent / "home" / "runtime.json").read_bytes() or b"{}")
    rows = runtime.get("latency", {}).get(MODEL) or {}
    return runtime.get("pid") == pid and rows.get("count", 0) > 5
