"""Collects what is worth telling the server beside the records: drift and resources."""

import json
import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.clock import Clock
from edge_agent.config import Config
from edge_agent.files import DiskFiles, write_atomic
from edge_agent.observation.incidents import DRIFT, RESOURCE, IncidentLog
from edge_agent.observation.monitor import Thresholds, read_resources
from edge_agent.releases.state import Layout

if TYPE_CHECKING:
    from edge_agent.inference.result import Result
    from edge_agent.inference.session import ModelSession
    from edge_agent.observation.drift import Change, DriftMonitor
    from edge_agent.observation.tally import Tally
    from edge_agent.releases.trust import Manifest

logger = logging.getLogger(__name__)
MAX_EVENTS = 100


class Observer:
    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self._layout = Layout(config.home)
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = []
        self._has_news = False
        self._drift: dict[str, tuple[str, DriftMonitor | None]] = {}
        self._files = DiskFiles()
        self._pasts = self._read_pasts()
        self.incidents = IncidentLog(self._layout.incidents, self._files, clock)
        self.thresholds = Thresholds(config.monitor)
        rows = self.incidents.rows()
        self.thresholds.restore(row["metric"] for row in rows if row["kind"] == RESOURCE)
        self._counters: dict[str, float] = {}
        self.resources: dict[str, float] = {}

    def observe(self, session: "ModelSession", result: "Result", features: list[float]) -> None:
        """Counts one good inference towards drift."""
        monitor = self._monitor_of(session) if self.config.drift.enabled else None
        if monitor is None:
            return
        latency_ms = 0.0 if result.is_cached else result.latency_ms
        monitor.add(result.class_id, result.confidence, features, latency_ms)
        slug = session.manifest.model
        is_firing = self.incidents.find_firing(DRIFT, slug) is not None
        change = monitor.check(time.monotonic(), is_firing=is_firing)
        if change is not None:
            self._note_drift(session, change)

    def prepare_counting(self, manifest: "Manifest", tally: "Tally") -> None:
        """Makes known by what the records of a release are counted, once for each."""
        if not tally.knows(manifest.digest):
            from edge_agent.observation.tally import read_scale

            tally.describe(manifest.digest, read_scale(manifest, self._layout, self._files))

    def _note_drift(self, session: "ModelSession", change: "Change") -> None:
        slug = session.manifest.model
        if not change.is_firing:
            self.add_event(self.incidents.resolve(DRIFT, slug))
            return
        event = self.incidents.fire(
            kind=DRIFT,
            model=slug,
            metric=change.metric,
            value=change.value,
            threshold=change.threshold,
            manifest_sha256=session.manifest.digest,
            quiet_s=self.config.drift.quiet_s,
        )
        self.add_event(event)

    def add_event(self, event: dict[str, Any] | None) -> None:
        """Keeps an event for the next report, which is then due at once; None is no event."""
        if event is None:
            return
        logger.warning("%s", event)
        with self._lock:
            self._has_news = True
            self._events.append({**event, "at": round(time.time(), 3)})
            del self._events[:-MAX_EVENTS]

    def take_news(self) -> bool:
        """True once after an event was added."""
        with self._lock:
            had, self._has_news = self._has_news, False
        return had

    def take_events(self) -> list[dict[str, Any]]:
        with self._lock:
            events, self._events = self._events, []
        return events

    def put_back(self, events: list[dict[str, Any]]) -> None:
        """Returns events that could not be sent, ahead of newer ones."""
        with self._lock:
            self._events = (events + self._events)[-MAX_EVENTS:]

    def sample_resources(self, home: Path) -> None:
        """Reads the resources, and notes what passed a threshold for good or came back."""
        self.resources = read_resources(home, self._counters)
        quiet_s = self.config.monitor.quiet_s
        for name, value in self.resources.items():
            self.incidents.follow(RESOURCE, name, value)
        for change in self.thresholds.check(self.resources):
            metric, value = change.metric, change.value
            if change.is_firing:
                event = self.incidents.fire(
                    kind=RESOURCE,
                    metric=metric,
                    value=value,
                    threshold=change.threshold,
                    quiet_s=quiet_s,
                )
            else:
                event = self.incidents.resolve(RESOURCE, metric, value)
            self.add_event(event)

    @property
    def is_scarce(self) -> bool:
        """True while processor, memory or heat are past a threshold."""
        return self.thresholds.is_firing("cpu_percent", "memory_percent", "temperature_c")

    def drift_state(self, sessions: Iterable["ModelSession"]) -> dict[str, Any]:
        """Per running model: its state in a word, the records it rests on, and every metric."""
        return {session.manifest.model: self._drift_row(session) for session in sessions}

    def _drift_row(self, session: "ModelSession") -> dict[str, Any]:
        slug, least = session.manifest.model, self.config.drift.min_records
        row: dict[str, Any] = {"records": 0, "min_records": least, "metrics": {}}
        if not self.config.drift.enabled:
            return {"status": "off", **row}
        if session.manifest.file_of_role("baseline") is None:
            return {"status": "no_reference", **row}
        digest, monitor = self._drift.get(slug, ("", None))
        firing = self.incidents.find_firing(DRIFT, slug)
        if monitor is None or digest != session.manifest.digest:
            is_unusable = digest == session.manifest.digest
            waiting = "firing" if firing else "insufficient"
            return {"status": "no_reference" if is_unusable else waiting, **row}
        metrics = monitor.metrics()
        row["records"] = monitor.count
        row["metrics"] = {name: metric.as_row() for name, metric in metrics.items()}
        if firing is not None:
            if firing.metric in metrics:
                self.incidents.follow(DRIFT, slug, round(metrics[firing.metric].value, 4))
            return {"status": "firing", **row}
        return {"status": "healthy" if metrics else "insufficient", **row}

    def keep_pasts(self) -> None:
        """Makes durable what each model's healthy past on this device is: a restart while something
        drifts must not take the drift for it."""
        monitors = list(self._drift.items())
        rows = {
            slug: {"manifest_sha256": digest, "past": monitor.describe_past()}
            for slug, (digest, monitor) in monitors
            if monitor is not None
        }
        if rows and rows != self._pasts:
            write_atomic(self._files, self._layout.drift_past, json.dumps(rows).encode())
            self._pasts = rows

    def _read_pasts(self) -> dict[str, Any]:
        try:
            rows = json.loads(self._files.read(self._layout.drift_past) or b"{}")
        except (OSError, ValueError) as error:
            logger.warning("%s is learned anew: %s", self._layout.drift_past.name, error)
            return {}
        whole = isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values())
        return rows if whole else {}

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
                kept = self._pasts.get(manifest.model) or {}
                past = kept.get("past") if kept.get("manifest_sha256") == manifest.digest else None
                monitor = DriftMonitor(profile, self.config.drift, past)
            except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
                logger.warning("baseline of %s is of no use: %s", manifest.model, error)
        self._drift[manifest.model] = (manifest.digest, monitor)
        firing = self.incidents.find_firing(DRIFT, manifest.model)
        if firing is not None and firing.manifest_sha256 != manifest.digest:
            # What one release's baseline says, another's may not.
            self.add_event(self.incidents.resolve(DRIFT, manifest.model))
        return monitor
