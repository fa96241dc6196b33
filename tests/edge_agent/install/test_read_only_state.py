"""A file system that takes no more writes, as after an error of a card: it still serves."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.cli.doctor import examine_device
from edge_agent.config import SpoolConfig, load_config
from edge_agent.observation.spool import Row, Spool
from servers.kept import Kept
from servers.patience import wait_for
from tests.edge_agent.install.test_full_disk import home, toml
from tests.edge_agent.publisher import MODEL, Server, make_model
from tests.edge_agent.test_run import all_records, call, start

__all__ = ["home", "start", "toml"]


def remount(home: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(home)], check=True)


@pytest.fixture
def installed(server: Server, home: Path, toml: Path) -> str:
    """The digest of the release that is committed on a file system of its own."""
    digest = server.publish(make_model())
    assert call(toml, "sync", "--once").returncode == 0
    return digest


def test_a_device_that_starts_on_a_read_only_disk_serves_uploads_and_says_so(
    server: Server,
    home: Path,
    toml: Path,
    installed: str,
    start: Callable[[], Kept],
) -> None:
    remount(home, "ro")
    once = call(toml, "infer", str(toml.parent / "inputs.npz"), "--limit", "1")
    assert once.returncode == 0, once.stderr
    process = start()
    wait_for(lambda: len(all_records(server)) > 20)
    assert all(record["model_version"] == installed for record in all_records(server))
    status = json.loads(call(toml, "status", "--json").stdout)
    assert status["trouble"]["home"].startswith("read_only")
    assert status["models"][MODEL]["manifest_sha256"] == installed
    (check,) = [row for row in examine_device(load_config(toml)) if row.name == "home"]
    assert not check.is_ok and "takes no writes" in check.advice
    wait_for(lambda: any(row["spool"]["records"] >= 0 for row in server.telemetry))
    assert process.poll() is None
    assert call(toml, "sync").stderr.startswith("locked"), "the home is held all the same"


def test_a_spool_whose_disk_turns_read_only_goes_on_in_memory(tmp_path: Path) -> None:
    """The kernel refuses each write from then on, as SQLite does here."""
    path = tmp_path / "spool.db"
    spool = Spool(path, SpoolConfig())
    spool.add_records([Row(0, '{"n": 1}')])
    spool.file.db.execute("PRAGMA query_only = ON")
    spool.add_records([Row(0, '{"n": 2}')])
    spool.events.add_event("a.1", "committed", "", "")
    assert "kept in memory until the next start" in spool.file.trouble
    batch = spool.next_batch(10)
    assert batch is not None and [record["n"] for record in batch.records] == [2]
    assert list(spool.events.pending()) == ["a.1"]
    spool.close()
    again = Spool(path, SpoolConfig())
    assert [record["n"] for record in again.export()] == [1], "what the disk held is still there"
    again.close()
