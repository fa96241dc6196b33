"""What a server's outage or a clock that jumps does is never reported as this device's failure."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge_agent.agent import Agent
from edge_agent.exceptions import AgentError
from tests.edge_agent.control.test_network import answer, truncate
from tests.edge_agent.publisher import MODEL, Server, make_model

BLAMING = {"failed", "rolled_back"}


def sync(agent: Agent, times: int = 3) -> None:
    for _ in range(times):
        try:
            agent.sync()
        except AgentError:
            continue


def at(**offset: float) -> str:
    return (datetime.now(UTC) + timedelta(**offset)).isoformat()


def hook(pattern: str, act: Callable[[Any], bool]) -> Callable[[Agent, Server], None]:
    return lambda agent, server: server.hooks.append((pattern, act))


def set_clock(seconds: float) -> Callable[[Agent, Server], None]:
    def jump(agent: Agent, server: Server) -> None:
        agent.installer.journal.read_clock = lambda: time.time() + seconds

    return jump


FAULTS: dict[str, Callable[[Agent, Server], None]] = {
    "no files for longer than an offer lasts": hook("/blobs/", answer(503, b"")),
    "files that break off": hook("/blobs/", truncate),
    "addresses that have expired": hook("/blobs/", answer(403, b"")),
    "files that are gone": hook("/blobs/", answer(404, b"")),
    "no polls": hook("/latest", answer(503, b"")),
    "no events": hook("/events", answer(503, b"")),
    "a clock ten years ahead": set_clock(10 * 365 * 86_400.0),
    "a clock of 1970": set_clock(-time.time()),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_leaves_a_commit_and_no_blame(
    agent: Agent, server: Server, name: str
) -> None:
    server.publish(make_model(), assignment={"expires_at": at(minutes=5)})
    FAULTS[name](agent, server)
    sync(agent)
    server.hooks.clear()
    agent.installer.journal.read_clock = time.time
    server.publish(make_model(), counter=2, assignment={"expires_at": at(days=7)})
    sync(agent)
    assert agent.installer.state.model(MODEL).current is not None
    states = [state for state, _ in server.states()]
    assert not BLAMING & set(states), server.states()
    assert "committed" in states, "and what was done meanwhile is told"


def test_an_offer_that_expired_unseen_is_refused_without_blame(
    agent: Agent, server: Server
) -> None:
    past = {"issued_at": at(days=-30), "expires_at": at(days=-23)}
    server.publish(make_model(), assignment=past)
    sync(agent)
    assert server.events == []
    assert "assignment_expired" in agent.trouble[f"model {MODEL}"]
    server.publish(make_model(), counter=2)
    sync(agent)
    assert not BLAMING & {state for state, _ in server.states()}
    assert agent.trouble == {}
