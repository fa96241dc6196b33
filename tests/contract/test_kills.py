"""Every record counted once, however often the agent is killed while it records and uploads.

`AVIARY_SOAK_KILLS` says how often; continuous integration does it a few times, `make soak-agent`
for as long as is asked.
"""

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.agents import Agent, DeviceSpec
from demo.plans import FIRST, MODEL
from demo.stack import REPOSITORY
from servers.kept import Kept
from servers.patience import CAP_SECONDS
from tests.contract.test_agent_against_server import make_join_token, wait_until
from tests.live import LiveServer, running_server

KILLS = int(os.environ.get("AVIARY_SOAK_KILLS", "6"))
SEED = int(os.environ.get("AVIARY_SOAK_SEED", "1"))
DEVICE = "kills-001"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("kills"), "kills") as server:
        server.story.publish_first_version()
        yield server


def run_and_kill(agent: Agent, chance: random.Random) -> None:
    """The real process, ended by SIGKILL at a random moment of its start or of its work.

    The moment of its work is counted in records, so that a slow machine gets as far.
    """
    before, more = committed_records(agent), chance.randint(150, 600)
    with (agent.home / "killed.log").open("ab") as log:
        process = Kept(agent._command("run"), cwd=REPOSITORY, env=agent._environment(), stderr=log)
    if chance.random() < 2 / 3:
        wait_until(
            lambda: committed_records(agent) >= before + more,
            progress=lambda: committed_records(agent),
        )
    time.sleep(chance.uniform(0.0, 1.0))
    process.kill()
    process.wait()


def committed_records(agent: Agent) -> int:
    """Every record that was ever durable on the device: its rowids are never used again."""
    with sqlite3.connect(agent.home / "state" / "spool.db") as db:
        (number,) = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'record'").fetchone()
    return int(number)


def wait_for_ticks(live: LiveServer, count: int) -> None:
    """Until the server has gathered what came in `count` times more."""
    log = live.stack.logs / "worker.log"

    def ended() -> int:
        lines = log.read_text(encoding="utf-8").splitlines()
        return sum("ingest.tasks.aggregate_inbox" in line and "succeeded" in line for line in lines)

    before = ended()
    wait_until(lambda: ended() >= before + count, progress=ended)


def counted_records(live: LiveServer) -> int:
    return sum(row["n"] for row in live.api.list(f"models/{MODEL}/windows/"))


@pytest.mark.timeout(CAP_SECONDS + 60 * KILLS)
def test_kills_at_random_moments_lose_no_record_and_repeat_none(
    live: LiveServer, tmp_path: Path
) -> None:
    body = {"name": "kills", "model": MODEL, "selector": {}, "stable_version": FIRST}
    live.api.post("deployments/", body)
    agent = Agent(DeviceSpec(DEVICE, "lab", 1), tmp_path)
    agent.prepare(live.stack.url, is_disturbed=False)
    text = agent.config_path.read_text()
    # Many small batches: there is nearly always one under way to be killed in.
    text = text.replace("rate_per_s = 12.0", "rate_per_s = 400.0")
    text = text.replace("flush_interval_s = 0.5", "flush_interval_s = 0.05\nbatch_records = 20")
    text = text.replace("upload_interval_s = 1.0", "upload_interval_s = 0.05")
    agent.config_path.write_text(text)
    agent.enroll(make_join_token(live))
    agent.start()
    wait_until(lambda: agent.running_version(MODEL) == FIRST)
    agent.stop()
    chance = random.Random(SEED)
    for _ in range(KILLS):
        run_and_kill(agent, chance)
    agent.inputs_path.unlink()
    agent.start()
    try:
        wait_until(lambda: agent.status()["spool"]["records"] == 0)
    finally:
        agent.stop()
    stat = agent.status()["spool"]
    assert (stat["records"], stat["dropped"], stat["rejected"]) == (0, 0, 0)
    committed = committed_records(agent)
    assert committed > 50 * KILLS
    wait_until(lambda: counted_records(live) >= committed)
    wait_for_ticks(live, 3)  # in which a record counted twice would show
    assert counted_records(live) == committed
    print(f"{KILLS} kills, {committed} records, each counted once")
