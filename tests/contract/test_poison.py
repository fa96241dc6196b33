"""A record that makes the real server's front stumble is isolated, set aside, and put back."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.agents import Agent, DeviceSpec
from demo.plans import FIRST, MODEL
from tests.contract.admin import AdminReader
from tests.contract.proxy import running_proxy
from tests.contract.test_agent_against_server import make_join_token, wait_until
from tests.contract.test_kills import committed_records, counted_records
from tests.live import LiveServer, running_server

DEVICE = "poison-001"
POISON = (60, 61)
"""Numbers of the records that are to blame, in the order the device made them."""
SETTINGS = {
    "rate_per_s = 12.0": "rate_per_s = 100.0",
    "flush_interval_s = 0.5": "flush_interval_s = 0.1\nbatch_records = 32\nsuspect_span_s = 1.0",
    "upload_interval_s = 1.0": "upload_interval_s = 0.1",
    "telemetry_interval_s = 5.0": "telemetry_interval_s = 1.0",
    "backoff_base_s = 0.5": "backoff_base_s = 0.05",
    "backoff_max_s = 2.0": "backoff_max_s = 0.2",
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("poison"), "poison") as server:
        server.story.publish_first_version()
        body = {"name": "poison", "model": MODEL, "selector": {}, "stable_version": FIRST}
        server.api.post("deployments/", body)
        yield server


def spool(agent: Agent, *arguments: str) -> list[Any]:
    done = agent._call("spool", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_poison_is_set_aside_seen_on_the_page_and_put_back_and_all_is_counted_once(
    live: LiveServer, tmp_path: Path
) -> None:
    agent = Agent(DeviceSpec(DEVICE, "lab", 1), tmp_path)
    chance = random.Random(5)

    def is_poisoned(path: str, body: bytes) -> bool:
        if path != "/api/ingest":
            return False
        return any(record["seq"] in POISON for record in json.loads(body)["records"])

    def loses(path: str, body: bytes) -> bool:
        return path == "/api/ingest" and chance.random() < 0.15

    with running_proxy(live.stack.url) as proxy:
        agent.prepare(proxy.url, is_disturbed=False)
        text = agent.config_path.read_text()
        for old, new in SETTINGS.items():
            assert old in text
            text = text.replace(old, new)
        agent.config_path.write_text(text)
        agent.enroll(make_join_token(live))
        proxy.stumbles, proxy.loses = is_poisoned, loses
        agent.start()
        try:
            wait_until(lambda: agent.status()["spool"].get("aside") == len(POISON))
            rows = spool(agent, "aside")
            assert sorted(row["record"]["seq"] for row in rows) == sorted(POISON)
            assert all("500" in row["reason"] for row in rows)
            (device,) = live.api.list(f"devices/?device_id={DEVICE}")
            page = f"/admin/fleet/device/{device['id']}/change/"
            wait_until(lambda: "needs a look" in AdminReader(live).read(page))
            proxy.stumbles = lambda path, body: False
            assert spool(agent, "requeue", str(rows[0]["id"])) == [{"requeued": 1}]
            assert spool(agent, "requeue", "--all") == [{"requeued": 1}]
            agent.stop()
            agent.inputs_path.unlink()
            agent.start()
            wait_until(lambda: agent.status()["spool"]["records"] == 0)
        finally:
            agent.stop()
    stat = agent.status()["spool"]
    assert (stat["aside"], stat["dropped"], stat["rejected"]) == (0, 0, 0)
    # A record keeps its number when it is put back, and gets another row.
    made = committed_records(agent) - len(POISON)
    assert made > 2 * max(POISON)
    wait_until(lambda: counted_records(live) >= made)
    assert counted_records(live) == made
