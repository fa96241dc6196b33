"""Collects what is worth telling the server beside the records: drift and resource events."""

import json
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.config import Config
from edge_agent.observation.monitor import Thresholds, read_resources
from edge_agent.releases.state import Layout

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession, Result
    from edge_agent.observation.drift import DriftMonitor

logger = logging.getLogger(__name__)
CHECK_EVERY = 20
"""Records between two looks at the drift scores."""
MAX_EVENTS = 100


class Observer:
    def __init__(self, config: Config) -> None:
        self.config = config
        self._layout = Layout(config.home)
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = []
        self._drift: dict[str, tuple[str, DriftMonitor | None]] = {}
        self._thresholds = Thresholds(config.monitor)
        self._counters: dict[str, float] = {}
        self.resources: dict[str, float] = {}

    def observe(self, session: "ModelSession", result: "Result", features: list[float]) -> None:
        """Counts one good inference towards drift."""
        monitor = self._monitor_of(session) if self.config.drift.enabled else None
        if monitor is None or result.class_id is None or result.confidence is None:
            return
        monitor.add(result.class_id, result.confidence, features, result.latency_ms)
        if monitor.count % CHECK_EVERY == 0:
            event = monitor.check()
            if event:
                self.add_event({**event, "model": session.manifest.model})

    def add_event(self, event: dict[str, Any]) -> None:
        logger.warning("%s", event)
        with self._lock:
            self._events.append({**event, "at": round(time.time(), 3)})
            del self._events[:-MAX_EVENTS]

    def take_events(self) -> list[dict[str, Any]]:
        with self._lock:
            events, self._events = self._events, []
        return events

    def put_back(self, events: list[dict[str, Any]]) -> None:
        """Returns events that could not be sent, ahead of newer ones."""
        with self._lock:
            self._events = (events + self._events)[-MAX_EVENTS:]

    def sample_resources(self, home: Path) -> None:
        """Reads the resources, and notes an event where a threshold is passed for good."""
        self.resources = read_resources(home, self._counters)
        for event in self._thresholds.check(self.resources):
            self.add_event(event)

    @property
    def is_scarce(self) -> bool:
        """True while processor, memory or heat are past a threshold."""
        return self._thresholds.is_raised("cpu_percent", "memory_percent", "temperature_c")

    def drift_state(self) -> dict[str, Any]:
        return {
            slug: {
                "is_raised": monitor.is_raised,
                "records": monitor.count,
                **monitor.scores(),
                "shifts": monitor.shifts(),
            }
            for slug, (_, monitor) in list(self._drift.items())
            if monitor is not None
        }

    def _monitor_of(self, session: "ModelSession") -> "DriftMonitor | None":
        # It needs numpy, which an agent without a model does without.
        from edge_agent.observation.drift import DriftMonitor

        manifest = session.manifest
        digest, monitor = self._drift.get(manifest.model, ("", None))
        if digest == manifest.digest:
            return monitor
        monitor = None
        file = manifest.file_of_role("baseline")
        if file is not None:
            try:
                profile = json.loads(self._layout.blob(file.sha256).read_bytes())
                monitor = DriftMonitor(profile, self.config.drift)
            except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
                logger.warning("baseline of %s is of no use: %s", manifest.model, error)
        self._drift[manifest.model] = (manifest.digest, monitor)
        return monitor
