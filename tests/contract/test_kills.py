"""Every record counted once, however often the agent is killed while it records and uploads.

`AVIARY_SOAK_KILLS` says how often; continuous integration does it a few times, `make soak-agent`
for as long as is asked.
"""

import json
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


#: Every record ever written to the disk, by whether it is a sample of what is counted anyhow.
LOG = """
CREATE TABLE IF NOT EXISTS seen (is_sample INTEGER);
CREATE TRIGGER IF NOT EXISTS see AFTER INSERT ON record BEGIN
    INSERT INTO seen VALUES (COALESCE(json_extract(new.body, '$.is_counted'), 0));
END;
"""


def committed_and_counted(agent: Agent) -> int:
    """Records that the device has ever kept to be counted by the server, or counted itself."""
    with sqlite3.connect(agent.home / "state" / "spool.db") as db:
        (raw,) = db.execute("SELECT COUNT(*) FROM seen WHERE NOT is_sample").fetchone()
        windows = db.execute("SELECT counts FROM summary").fetchall()
    return int(raw) + sum(json.loads(counts)["n"] for (counts,) in windows)


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


def make_quick_agent(live: LiveServer, home: Path, device_id: str) -> Agent:
    """An agent with many small batches: there is nearly always one under way to be killed in."""
    agent = Agent(DeviceSpec(device_id, "lab", 1), home)
    agent.prepare(live.stack.url, is_disturbed=False)
    text = agent.config_path.read_text()
    text = text.replace("rate_per_s = 12.0", "rate_per_s = 400.0")
    text = text.replace("flush_interval_s = 0.5", "flush_interval_s = 0.05\nbatch_records = 20")
    text = text.replace("upload_interval_s = 1.0", "upload_interval_s = 0.05")
    agent.config_path.write_text(text)
    agent.enroll(make_join_token(live))
    with sqlite3.connect(agent.home / "state" / "spool.db") as db:
        db.executescript(LOG)
    agent.start()
    wait_until(lambda: agent.running_version(MODEL) == FIRST)
    return agent


@pytest.mark.timeout(CAP_SECONDS + 60 * KILLS)
def test_kills_at_random_moments_lose_no_record_and_repeat_none(
    live: LiveServer, tmp_path: Path
) -> None:
    body = {"name": "kills", "model": MODEL, "selector": {}, "stable_version": FIRST}
    live.api.post("deployments/", body)
    agent = make_quick_agent(live, tmp_path, DEVICE)
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


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    changes = {"AVIARY_SUMMARY_SECONDS": "1"}
    with running_server(tmp_path_factory.mktemp("counting"), "counting", changes) as server:
        server.story.publish_first_version()
        yield server


@pytest.mark.timeout(CAP_SECONDS + 60 * KILLS)
def test_kills_of_a_device_that_counts_lose_no_record_and_repeat_none(
    counting: LiveServer, tmp_path: Path
) -> None:
    """The same with summaries, whose samples go up as records as well and are counted once."""
    body = {"name": "kills", "model": MODEL, "selector": {}, "stable_version": FIRST}
    counting.api.post("deployments/", body)
    agent = make_quick_agent(counting, tmp_path, "counting-001")
    wait_until(lambda: windows_counted(agent) > 0, progress=lambda: windows_counted(agent))
    agent.stop()
    chance = random.Random(SEED + 1)
    for _ in range(KILLS):
        run_counting_and_kill(agent, chance)
    agent.inputs_path.unlink()
    agent.start()
    try:
        wait_until(lambda: agent.status()["spool"]["records"] == 0 and is_all_sent(agent))
    finally:
        agent.stop()
    expected = committed_and_counted(agent)
    wait_until(lambda: counted_records(counting) >= expected)
    wait_for_ticks(counting, 3)  # in which a record counted twice would show
    assert counted_records(counting) == expected
    with sqlite3.connect(agent.home / "state" / "spool.db") as db:
        (samples,) = db.execute("SELECT COUNT(*) FROM seen WHERE is_sample").fetchone()
    assert samples > 0 and windows_counted(agent) > 1
    print(f"{KILLS} kills, {expected} records in {windows_counted(agent)} windows, each once")


def windows_counted(agent: Agent) -> int:
    with sqlite3.connect(agent.home / "state" / "spool.db") as db:
        (number,) = db.execute("SELECT COUNT(*) FROM summary").fetchone()
    return int(number)


def is_all_sent(agent: Agent) -> bool:
    with sqlite3.connect(agent.home / "state" / "spool.db") as db:
        (open_,) = db.execute("SELECT COUNT(*) FROM summary WHERE revision > sent").fetchone()
    return int(open_) == 0


def run_counting_and_kill(agent: Agent, chance: random.Random) -> None:
    """As `run_and_kill`; the moment is counted in what was counted."""
    before, more = committed_and_counted(agent), chance.randint(150, 600)
    with (agent.home / "killed.log").open("ab") as log:
        process = Kept(agent._command("run"), cwd=REPOSITORY, env=agent._environment(), stderr=log)
    if chance.random() < 2 / 3:
        wait_until(
            lambda: committed_and_counted(agent) >= before + more,
            progress=lambda: committed_and_counted(agent),
        )
    time.sleep(chance.uniform(0.0, 1.0))
    process.kill()
    process.wait()
