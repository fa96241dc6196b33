"""Simulated devices against the real server: what they do is what the server keeps of them."""

import json
from collections import Counter
from typing import Any

from django.core.management import call_command

from demo.plans import FIRST, MODEL
from servers.patience import wait_for
from tests.contract.test_agent_against_server import make_join_token
from tests.live import LiveServer

COUNT = 60


def test_a_fleet_installs_fails_and_is_seen(live: LiveServer, capsys: Any) -> None:
    live.api.post(
        "deployments/",
        {
            "name": "simulated", "model": MODEL, "stable_version": FIRST,
            "selector": {"fleet": ["simulated"]}, "priority": 10,
        },
    )  # fmt: skip
    call_command(
        "simulate_fleet", live.stack.url, model=MODEL, devices=COUNT, rounds=3, speed=0,
        join_token=make_join_token(live, max_uses=COUNT), label=["fleet=simulated"],
        mix="healthy=3,failing=1", connections=8,
    )  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert told["enrolled"] == COUNT
    assert told["committed"] > COUNT / 2 and told["failed"] > 0
    # Those that committed know what they have; those that failed ask again each time.
    assert told["poll_304"] == 2 * told["committed"]

    def kept() -> Counter[str]:
        rows = live.api.list("installations/", page_size=500)
        return Counter(row["state"] for row in rows if str(row["device"]).startswith("sim-"))

    found = kept()
    assert found["committed"] == told["committed"]
    assert found["failed"] == COUNT - told["committed"]

    def polls_kept() -> int:
        rows = live.api.list("devices/", label="fleet=simulated", page_size=500)
        return sum(row["poll_count"] for row in rows)

    polls = sum(n for name, n in told.items() if name.startswith("poll_"))
    # Notes are written by the next tick of the worker; none is lost and none counts twice.
    wait_for(
        lambda: polls_kept() >= polls, "every poll to be counted", progress=polls_kept,
        interval_seconds=0.5,
    )  # fmt: skip
    assert polls_kept() == polls
    rows = live.api.list("devices/", label="fleet=simulated", page_size=500)
    assert len(rows) == COUNT and all(row["last_seen_at"] for row in rows)
    assert sum(bool(row["running"]) for row in rows) == told["committed"]
