"""What persons ask a running agent for, as files in `requests/`: one each, read once."""

import json
import logging
from typing import Any

from edge_agent.agent import Agent
from edge_agent.exceptions import AgentError

logger = logging.getLogger(__name__)
MAX_REQUEST_BYTES = 4096


def apply_request(agent: Agent, request: dict[str, Any]) -> bool:
    """Carries out a person's request: `rollback`, `pin`, `unpin` or `unblock`."""
    slug, action = request["model"], request["action"]
    if action == "rollback":
        return agent.installer.roll_back(slug, code="requested", detail="by a person on the device")
    if action == "unblock":
        agent.installer.unblock(slug)
    elif action in ("pin", "unpin"):
        agent.installer.pin(slug, is_pinned=action == "pin")
    else:
        raise ValueError(f"unknown action {action}")
    return True


class RequestBox:
    """Obeys the requests of commands beside this process."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._done: set[str] = set()
        """Files that could not be removed: on a disk that takes no writes they stay."""

    def obey(self) -> None:
        agent = self._agent
        folder = agent.layout.requests
        names = [name for name in agent.files.list(folder) if name.endswith(".json")]
        self._done.intersection_update(names)
        for name in names:
            if name in self._done:
                continue
            try:
                data = agent.files.read(folder / name) or b""
                apply_request(agent, json.loads(data[:MAX_REQUEST_BYTES]))
            except (ValueError, KeyError, TypeError, OSError, AgentError) as error:
                logger.error("request %s: %s", name, error)
            self._done.add(name)
            try:
                agent.files.unlink(folder / name)
            except OSError as error:
                logger.error("request %s cannot be removed: %s", name, error)
            agent.load_sessions()
