"""What is known again after `state.json` is lost, beside what signatures tell."""

import pytest

from edge_agent.agent import Agent
from edge_agent.config import Config
from edge_agent.requests import apply_request
from tests.edge_agent.publisher import MODEL, Server, make_model


def lose_state(agent: Agent, config: Config) -> Agent:
    """The agent after a restart that found its state damaged."""
    agent.layout.state.write_bytes(b"\0" * 100)
    agent.close()
    after = Agent(config)
    after.installer.boot()
    return after


def test_a_blocked_release_stays_blocked(agent: Agent, server: Server, config: Config) -> None:
    first = server.publish(make_model())
    agent.sync()
    second = server.publish(make_model(seed=1), counter=2, sequence=2, version="2.0.0")
    agent.sync()
    assert agent.installer.roll_back(MODEL, code="requested", detail="by a person")
    after = lose_state(agent, config)
    try:
        model = after.installer.state.model(MODEL)
        assert model.blocked == {second: "requested: by a person"}
        assert model.current is not None and model.current.manifest_sha256 == first
        after.sync()
        assert model.current.manifest_sha256 == first, "it is offered still, and refused"
    finally:
        after.close()


def test_a_pinned_release_stays_pinned(agent: Agent, server: Server, config: Config) -> None:
    first = server.publish(make_model())
    agent.sync()
    apply_request(agent, {"action": "pin", "model": MODEL})
    after = lose_state(agent, config)
    try:
        assert after.installer.state.model(MODEL).is_pinned
        server.publish(make_model(seed=1), counter=2, sequence=2, version="2.0.0")
        assert after.sync() == set()
        current = after.installer.state.model(MODEL).current
        assert current is not None and current.manifest_sha256 == first
    finally:
        after.close()


@pytest.mark.parametrize("damage", [b"", b"{", b"0" * 64 + b"\n{}"])
def test_a_torn_copy_counts_for_nothing(
    agent: Agent, server: Server, config: Config, damage: bytes
) -> None:
    first = server.publish(make_model())
    agent.sync()
    apply_request(agent, {"action": "pin", "model": MODEL})
    agent.layout.decisions.write_bytes(damage)
    after = lose_state(agent, config)
    try:
        model = after.installer.state.model(MODEL)
        assert not model.is_pinned
        assert model.current is not None and model.current.manifest_sha256 == first
    finally:
        after.close()


def test_what_was_unblocked_is_forgotten_in_the_copy_too(
    agent: Agent, server: Server, config: Config
) -> None:
    server.publish(make_model())
    agent.sync()
    server.publish(make_model(seed=1), counter=2, sequence=2, version="2.0.0")
    agent.sync()
    agent.installer.roll_back(MODEL, code="requested", detail="")
    apply_request(agent, {"action": "unblock", "model": MODEL})
    after = lose_state(agent, config)
    try:
        assert after.installer.state.model(MODEL).blocked == {}
    finally:
        after.close()
