"""Which model a command means."""

from typing import Any

from edge_agent.config import Config
from edge_agent.exceptions import AgentError, NoModelError


def pick_model(config: Config, wanted: str) -> str:
    from edge_agent.status import describe_state

    if wanted:
        return wanted
    models = sorted(describe_state(config)["models"])
    if not models:
        raise NoModelError("no model is installed: aviary-agent sync --once asks for one")
    if len(models) > 1:
        raise AgentError(f"name one of the models with --model: {models}")
    return models[0]


def open_session(config: Config, wanted: str) -> Any:
    from edge_agent.agent import Agent

    model = pick_model(config, wanted)
    agent = Agent(config, is_owner=False)
    try:
        return agent.open_session(model)
    finally:
        agent.close()
