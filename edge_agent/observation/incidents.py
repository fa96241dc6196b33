"""What fires on this device, kept across restarts, and how often a person is told of it.

Whether something fires is decided by the drift monitor and the resource thresholds, each with its
own hysteresis; here it gets a beginning, an end, and a limit on how often it becomes an event. What
fires again soon after its end is the same incident again: the reports say so, no event does.
"""

import dataclasses
import json
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.clock import Clock, read_system_clock
from edge_agent.exceptions import DiskFullError
from edge_agent.files import FileLayer, write_atomic

logger = logging.getLogger(__name__)
MAX_KNOWN = 64
LONGEST_S = 30 * 86_400.0
DRIFT, RESOURCE = "drift", "resource"


@dataclass(frozen=True)
class Moment:
    """A point in time that means something after a restart, and something less after a reboot."""

    boot_id: str
    since_boot_s: float
    wall_s: float

    def seconds_until(self, clock: Clock) -> float:
        """From then until now: exact within a boot, else by the wall clock, a hint."""
        if self.boot_id == clock.boot_id:
            return max(0.0, clock.since_boot() - self.since_boot_s)
        return min(max(0.0, clock.wall() - self.wall_s), LONGEST_S)


@dataclass
class Incident:
    kind: str
    """`drift` or `resource`."""
    model: str
    """Slug of the model whose records drifted; empty for a resource."""
    metric: str
    value: float
    threshold: float
    manifest_sha256: str
    fired: Moment
    told: Moment
    """When it last became an event."""
    is_firing: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """A model drifts or does not; each resource is a matter of its own."""
        return self.kind, self.model or self.metric

    def describe(self) -> dict[str, Any]:
        row = {"model": self.model} if self.model else {}
        return {**row, "metric": self.metric, "value": self.value, "threshold": self.threshold}


class IncidentLog:
    """The incidents that fire, and those that fired lately; safe to use from several threads."""

    def __init__(self, path: Path, files: FileLayer, clock: Clock | None = None) -> None:
        self._path = path
        self._files = files
        self._clock = clock or read_system_clock()
        self._lock = threading.RLock()
        self._known: dict[tuple[str, str], Incident] = {}
        self._load()

    def find_firing(self, kind: str, subject: str) -> Incident | None:
        """The incident of a model's drift or of a resource, while it fires."""
        with self._lock:
            incident = self._known.get((kind, subject))
        return incident if incident is not None and incident.is_firing else None

    def fire(
        self,
        *,
        kind: str,
        metric: str,
        value: float,
        threshold: float,
        model: str = "",
        manifest_sha256: str = "",
        quiet_s: float,
    ) -> dict[str, Any] | None:
        """Notes that it fires; returns the event, or None within `quiet_s` of the last one."""
        now = self._now()
        fresh = Incident(kind, model, metric, value, threshold, manifest_sha256, now, now)
        with self._lock:
            before = self._known.get(fresh.key)
            is_told = before is not None and before.told.seconds_until(self._clock) < quiet_s
            if before is not None and is_told:
                fresh.told = before.told
            self._known[fresh.key] = fresh
            self._store()
        return None if is_told else {"kind": f"{kind}_firing", **fresh.describe()}

    def follow(self, kind: str, subject: str, value: float) -> None:
        """Notes the value as it is now of something that fires."""
        with self._lock:
            incident = self._known.get((kind, subject))
            if incident is not None:
                incident.value = value

    def resolve(self, kind: str, subject: str, value: float | None = None) -> dict[str, Any] | None:
        """Notes that it is over; returns the event, or None when nothing fired, or nobody was told
        that it had."""
        with self._lock:
            incident = self.find_firing(kind, subject)
            if incident is None:
                return None
            incident.is_firing = False
            incident.value = incident.value if value is None else value
            self._store()
            is_told = incident.told == incident.fired
        return {"kind": f"{kind}_resolved", **incident.describe()} if is_told else None

    def rows(self) -> list[dict[str, Any]]:
        """Everything that fires now, as the reports say it."""
        with self._lock:
            firing = [incident for incident in self._known.values() if incident.is_firing]
        return [
            {
                "kind": incident.kind,
                **incident.describe(),
                "for_s": round(incident.fired.seconds_until(self._clock), 1),
            }
            for incident in firing
        ]

    def _now(self) -> Moment:
        clock = self._clock
        return Moment(clock.boot_id, clock.since_boot(), clock.wall())

    def _load(self) -> None:
        data = self._files.read(self._path)
        try:
            for row in json.loads(data)["incidents"][:MAX_KNOWN] if data else []:
                fired, told = Moment(**row.pop("fired")), Moment(**row.pop("told"))
                incident = Incident(**row, fired=fired, told=told)
                self._known[incident.key] = incident
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("%s is of no use and starts anew: %s", self._path.name, error)
            self._known.clear()

    def _store(self) -> None:
        newest = sorted(self._known.values(), key=lambda item: (item.is_firing, item.fired.wall_s))
        kept: Iterable[Incident] = newest[-MAX_KNOWN:]
        self._known = {incident.key: incident for incident in kept}
        rows = [dataclasses.asdict(incident) for incident in self._known.values()]
        try:
            write_atomic(self._files, self._path, json.dumps({"incidents": rows}).encode())
        except (OSError, DiskFullError) as error:
            # A full disk is one of the things that fire; then this is known until a restart only.
            logger.warning("%s cannot be written: %s", self._path.name, error)
