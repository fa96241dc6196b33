"""A database that was restored from a backup, and a real agent that has seen later decisions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from demo.agents import Agent, DeviceSpec
from demo.plans import FIRST, MODEL
from tests.contract.test_deltas import make_join_token, make_successor, publish, wait_until
from tests.live import LiveServer, running_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("restore"), "restore") as server:
        server.story.publish_first_version()
        yield server


def copy_database(live: LiveServer, source: str, target: str) -> None:
    """Makes the database of the suffix `target` what that of `source` is now."""
    url = live.stack._services.get("DATABASE_URL")
    if url is None:
        file = live.stack.home / "server" / "aviary.sqlite3"
        shutil.copy(f"{file}{source}", f"{file}{target}")
        return
    name = urlsplit(url).path.lstrip("/")
    admin = urlsplit(url)._replace(path="/postgres").geturl()
    with psycopg.connect(admin, autocommit=True) as connection:
        for suffix in (source, target):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [f"{name}{suffix}"],
            )
        drop = f'DROP DATABASE IF EXISTS "{name}{target}" WITH (FORCE)'
        connection.execute(drop)  # type: ignore[arg-type]
        make = f'CREATE DATABASE "{name}{target}" TEMPLATE "{name}{source}"'
        connection.execute(make)  # type: ignore[arg-type]


def restart(live: LiveServer, between: Any) -> None:
    """Web server and worker stopped, `between` done, and started again."""
    live.stack.stop()
    between()
    live.stack._processes.clear()
    live.stack.start()


def set_version(live: LiveServer, deployment: int, version: str) -> None:
    live.api.patch(
        f"deployments/{deployment}/",
        {
            "stable_version": version,
            "is_at_once": True,
            "reason": "the next step",
            "confirmed_devices": 100,
        },
    )


@pytest.mark.timeout(900)
def test_a_restored_backup_is_refused_said_and_recovered_from(
    live: LiveServer, tmp_path: Path
) -> None:
    body = {"name": "restore", "model": MODEL, "selector": {}, "stable_version": FIRST}
    deployment = live.api.post("deployments/", body)["id"]
    agent = Agent(DeviceSpec("restore-001", "lab", 1), tmp_path)
    agent.prepare(live.stack.url, is_disturbed=False)
    agent.enroll(make_join_token(live))
    agent.start()
    try:
        wait_until(lambda: agent.running_version(MODEL) == FIRST)
        restart(live, lambda: copy_database(live, "", "_backup"))
        for number, version in enumerate(("1.0.1", "1.0.2"), start=1):
            publish(live, make_successor(tmp_path / f"{version}.onnx", seed=number), version)
            set_version(live, deployment, version)
            wait_until(lambda version=version: agent.running_version(MODEL) == version)
        restart(live, lambda: copy_database(live, "_backup", ""))

        def refused() -> Any:
            trouble = live.api.get("devices/restore-001/")["trouble"]
            return "counter_replayed" in json.dumps(trouble)

        wait_until(refused)
        assert agent.running_version(MODEL) == "1.0.2"
        doctor = agent._call("doctor").stdout
        assert "counter_replayed" in doctor and "raise_counters" in doctor
        said = live.stack._manage(live.stack._variables, "raise_counters")
        assert f"{MODEL}: " in said and "1 devices had reported" in said
        wait_until(lambda: agent.running_version(MODEL) == FIRST)
        wait_until(lambda: not refused())
        assert "counter_replayed" not in agent._call("doctor").stdout
    finally:
        agent.stop()
