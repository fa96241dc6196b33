"""What a running agent says of itself: telemetry for the server, `runtime.json` for `status`."""

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from edge_agent.agent import Agent
from edge_agent.control.answers import read_sampling_switch
from edge_agent.control.processor import read_instruction_sets
from edge_agent.observation.observe import Observer
from edge_agent.observation.tally import Tally
from edge_agent.version import __version__

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession

logger = logging.getLogger(__name__)


class Reporter:
    def __init__(self, agent: Agent, observer: Observer, tally: Tally) -> None:
        self.agent = agent
        self.observer = observer
        self.tally = tally
        self.instruction_sets = read_instruction_sets()
        self.endpoint_address = ""
        """Where the local HTTP endpoint listens; empty while there is none."""

    def running(self) -> dict[str, str]:
        """The manifest's digest of each model's current release."""
        models = self.agent.installer.state.models
        return {
            slug: model.current.manifest_sha256 for slug, model in models.items() if model.current
        }

    def sessions(self) -> "list[ModelSession]":
        return [slot.session for slot in list(self.agent.slots.values()) if slot.session]

    def send_telemetry(self) -> None:
        """Sends a report and obeys the switch in its answer; events stay until one was sent."""
        if self.agent.client.credentials is None:
            return
        events = self.observer.take_events()
        try:
            answer = self.agent.client.post_telemetry(self._describe(events))
        except Exception:
            self.observer.put_back(events)
            raise
        is_allowed = read_sampling_switch(answer.body)
        if is_allowed is not None:
            self.agent.sampler.obey(is_allowed=is_allowed)
        self.tally.follow(answer.body)

    def write_runtime(self) -> None:
        """Writes `runtime.json`, for `status` only: not synced, as it is worth nothing after a
        restart."""
        row: dict[str, Any] = {"pid": os.getpid(), "providers": self._providers()}
        row["latency"] = self._latencies()
        row["trouble"] = dict(self.agent.trouble)
        row["drift"] = self.observer.drift_state(self.sessions())
        row["incidents"] = self.observer.incidents.rows()
        row["endpoint"] = self.endpoint_address
        path = self.agent.layout.runtime
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(row))
            os.replace(temporary, path)
        except OSError as error:
            # On a full disk there is no room for a second file, and this is when a person looks:
            # the blocks of the first one are taken again, whoever reads it meanwhile.
            logger.debug("runtime.json is written in place: %s", error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            with contextlib.suppress(OSError), path.open("r+") as stream:
                stream.write(json.dumps(row))
                stream.truncate()

    def _describe(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        observer = self.observer
        return {
            "resources": observer.resources,
            "providers": self._providers(),
            "agent_version": __version__,
            # An agent that was updated may tell more of its device than it did on enrolling.
            "capabilities": {"isa": self.instruction_sets},
            "running": self.running(),
            "events": events,
            "trouble": dict(self.agent.trouble),
            "spool": self.agent.spool.stat(),
            "drift": observer.drift_state(self.sessions()),
            "incidents": observer.incidents.rows(),
            "latency": self._latencies(),
            "sampling": self.agent.sampler.stat(),
        }

    def _providers(self) -> dict[str, Any]:
        rows: dict[str, Any] = {}
        for slug, slot in self.agent.slots.items():
            if slot.session is not None:
                rows[slug] = slot.session.providers.as_row()
            elif slot.refusal:
                rows[slug] = {
                    "requested": list(self.agent.config.inference.providers),
                    "active": [],
                    "nodes": {},
                    "fallbacks": [],
                    "refusal": slot.refusal,
                }
        return rows

    def _latencies(self) -> dict[str, dict[str, float]]:
        return {
            slug: slot.session.latency.stats()
            for slug, slot in self.agent.slots.items()
            if slot.session
        }
