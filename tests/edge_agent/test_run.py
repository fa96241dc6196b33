"""The agent as a process of its own, against a real server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servers.kept import Kept, run
from servers.patience import wait_for
from tests.edge_agent.publisher import DEVICE, MODEL, TOKEN, Server, make_model

REPOSITORY = Path(__file__).resolve().parents[2]
TOML = """
[agent]
device_id = "{device}"
server_url = "{url}"
home = "home"
models = ["{model}"]
join_token = "join"
[network]
backoff_base_s = 0.05
backoff_max_s = 0.2
[install]
disk_reserve_bytes = 0
watch_seconds = 0.5
[source]
path = "inputs.npz"
rate_per_s = 100
[spool]
flush_interval_s = 0.1
upload_interval_s = 0.2
[monitor]
telemetry_interval_s = 0.3
"""


def write_inputs(path: Path, value: float) -> None:
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, x=np.full((8, 4), value, dtype=np.float32))
    temporary.replace(path)


@pytest.fixture
def toml(server: Server, tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(TOML.format(device=DEVICE, url=server.url, model=MODEL))
    write_inputs(tmp_path / "inputs.npz", 1.0)
    return path


@pytest.fixture
def start(toml: Path) -> Iterator[Callable[[], Kept]]:
    processes = []

    def start() -> Kept:
        command = [sys.executable, "-m", "edge_agent", "--config", str(toml), "run"]
        processes.append(Kept(command, cwd=REPOSITORY))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def call(toml: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_agent", "--config", str(toml), *arguments]
    return run(command, cwd=REPOSITORY)


def all_records(server: Server) -> list[dict[str, Any]]:
    return [record for records in list(server.batches.values()) for record in records]


def test_it_enrols_installs_classifies_uploads_and_stops(
    server: Server, toml: Path, start: Callable[[], Kept]
) -> None:
    digest = server.publish(make_model())
    process = start()
    wait_for(lambda: len(all_records(server)) > 20)
    write_inputs(toml.parent / "inputs.npz", -3.0)
    wait_for(lambda: any(r.get("features") == [-3.0, 0.0] for r in all_records(server)))
    wait_for(lambda: server.telemetry and server.telemetry[-1]["running"] == {MODEL: digest})
    status = json.loads(call(toml, "status", "--json").stdout)
    assert status["device_id"] == DEVICE
    assert status["models"][MODEL]["manifest_sha256"] == digest
    assert status["models"][MODEL]["state"] == "committed"
    assert "runs on cpu" in call(toml, "status").stdout
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    record = all_records(server)[0]
    assert record["model_version"] == digest
    assert record["model"] == MODEL
    assert set(record) >= {"timestamp", "latency_ms", "confidence", "class_id", "features"}
    assert json.loads(call(toml, "spool", "stat").stdout)["records"] == 0


def test_a_new_release_replaces_the_running_one(server: Server, start: Callable[[], Kept]) -> None:
    server.publish(make_model())
    start()
    wait_for(lambda: len(all_records(server)) > 5)
    second = server.publish(make_model(seed=1), counter=2, sequence=2, version="1.1.0")
    wait_for(lambda: any(r["model_version"] == second for r in all_records(server)))


def test_killed_at_any_moment_it_loses_no_record_that_was_flushed_and_doubles_none(
    server: Server, toml: Path, start: Callable[[], Kept]
) -> None:
    server.publish(make_model())
    seen: list[str] = []
    for _ in range(3):
        process = start()
        before = len(all_records(server))
        wait_for(lambda before=before: len(all_records(server)) > before + 10)  # type: ignore[misc]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    final = call(toml, "spool", "flush")
    assert final.returncode == 0, final.stderr
    for records in server.batches.values():
        seen += [json.dumps(record, sort_keys=True) for record in records]
    assert len(seen) == len(set(seen))
    assert json.loads(call(toml, "spool", "stat").stdout)["records"] == 0


def test_rollback_beside_a_running_agent_reaches_it(
    server: Server, toml: Path, start: Callable[[], Kept]
) -> None:
    first = server.publish(make_model())
    start()
    wait_for(lambda: len(all_records(server)) > 5)
    server.publish(make_model(seed=1), counter=2, sequence=2)
    wait_for(lambda: server.states().count(("committed", "")) == 2)
    assert call(toml, "rollback").returncode == 0
    wait_for(lambda: ("rolled_back", "requested") in server.states())
    status = json.loads(call(toml, "status", "--json").stdout)
    assert status["models"][MODEL]["manifest_sha256"] == first


def test_a_release_that_fails_on_live_inputs_is_rolled_back(
    server: Server, toml: Path, start: Callable[[], Kept]
) -> None:
    first = server.publish(make_model())
    start()
    wait_for(lambda: len(all_records(server)) > 5)
    second = server.publish(make_model(takes_logarithm=True), counter=2, sequence=2)
    write_inputs(toml.parent / "inputs.npz", -1.0)
    wait_for(lambda: ("rolled_back", "health_check_failed") in server.states())
    wait_for(lambda: any(r["model_version"] == second for r in all_records(server)))
    failed = [r for r in all_records(server) if r["model_version"] == second]
    assert all(r["error"] == "non_finite" for r in failed)
    wait_for(lambda: server.telemetry[-1]["running"] == {MODEL: first})


def test_a_second_agent_on_the_same_home_is_refused(
    server: Server, toml: Path, start: Callable[[], Kept]
) -> None:
    server.publish(make_model())
    start()
    wait_for(lambda: len(all_records(server)) > 0)
    answer = call(toml, "sync", "--once")
    assert answer.returncode == 1
    assert answer.stderr.startswith("locked")


def test_every_command_works_from_a_shell(server: Server, toml: Path) -> None:
    server.publish(make_model())
    assert json.loads(call(toml, "enroll", "--join-token", "join").stdout)["status"] == "accepted"
    credentials = toml.parent / "home" / "credentials.json"
    assert TOKEN in credentials.read_text()
    assert credentials.stat().st_mode & 0o077 == 0
    assert json.loads(call(toml, "sync", "--once").stdout)["changed"] == [MODEL]
    line = call(toml, "infer", str(toml.parent / "inputs.npz"), "--limit", "1").stdout
    assert json.loads(line)["top_k"][0]["label"] in "abc"
    bench = call(toml, "bench", "--runs", "50", "--providers", "cuda,cpu", "--threads", "1,2")
    *table, last = bench.stdout.splitlines()
    rows = json.loads(last)
    assert [(row["provider"], row["threads"]) for row in rows] == [
        ("cuda", 1),
        ("cuda", 2),
        ("cpu", 1),
        ("cpu", 2),
    ]
    assert all(row["runs"] == 50 and row["wrapped_us"]["p99"] > 0 for row in rows)
    assert [row["active"] for row in rows] == [["cpu"]] * 4
    assert rows[0]["fallbacks"][0]["kind"] == "not_in_build" and rows[2]["fallbacks"] == []
    assert table[0].startswith("provider  threads  ran on")
    assert table[-1].startswith("cuda: not_in_build: the installed build has")
    assert call(toml, "bench", "--providers", "gpu").returncode == 1
    assert call(toml, "bench", "--runs", "1000000").stderr.startswith("configuration")
    checks = json.loads(call(toml, "doctor", "--json").stdout)
    assert {check["name"] for check in checks} >= {"disk", "fsync", "provider cpu", "server"}
    assert [check for check in checks if not check["is_ok"]] == []
    assert call(toml, "rollback").returncode == 1, "there is nothing to go back to"
