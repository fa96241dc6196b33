"""Every table that grows with the fleet or with time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db.models import Model, Q, QuerySet
from knox.models import AuthToken

from compression.models import Job, StepResult
from fleet.models import (
    Device,
    DeviceIncident,
    GateEvaluation,
    Installation,
    InstallationEvent,
    Quarantine,
    Rollout,
    RolloutEvent,
    SampleBatch,
    SelfTest,
    Telemetry,
)
from ingest.models import (
    DeviceTests,
    DriftEvaluation,
    InboxBatch,
    Incident,
    RejectedRecord,
    RollUp,
    Summary,
    Window,
)
from notifications.models import Delivery, OutboxEvent
from registry.models import AuditEvent, Blob, BlobUpload, Version


@dataclass(frozen=True)
class GrowingTable:
    """A table and what becomes of its old rows.

    Attributes:
        name: as in `AVIARY_KEEP_DAYS` and `manage.py prune --table`.
        age: the field that says how old a row is.
        is_over: which rows may go at all, whatever their age; None for every row.
        keeper: in words, what removes rows, or why nothing does; empty where `prune` does.
        is_expiry: `age` is a moment up to which a row is good, not one at which it was made.
    """

    name: str
    model: type[Model]
    age: str
    is_over: Q | None = None
    keeper: str = ""
    is_expiry: bool = False

    @property
    def days(self) -> int | None:
        """For how long rows are kept; None where no setting says so."""
        found: int | None = settings.AVIARY_KEEP_DAYS.get(self.name)
        return found

    def stale(self, now: datetime, days: int | None = None) -> QuerySet[Model]:
        """Rows to remove at `now`; none where nothing is removed by age."""
        rows = self.model._default_manager.all()
        kept = self.days if days is None else days
        if self.keeper or not kept:
            return rows.none()
        rows = rows.filter(**{f"{self.age}__lt": now - timedelta(days=kept)})
        return rows if self.is_over is None else rows.filter(self.is_over)


_COUNTED = Q(state__in=[InboxBatch.State.DONE, InboxBatch.State.FAILED])
_RESOLVED = Q(resolved_at__isnull=False)
_FOREVER = "nothing: small, and what the fleet is explained by"

TABLES: tuple[GrowingTable, ...] = (
    GrowingTable("inbox", InboxBatch, "received_at", _COUNTED),
    GrowingTable("rejected", RejectedRecord, "batch__received_at", keeper="goes with its batch"),
    GrowingTable("windows", Window, "start"),
    GrowingTable("rollups", RollUp, "start"),
    GrowingTable("device_tests", DeviceTests, "period_end", keeper="the next test of a release"),
    GrowingTable("summaries", Summary, "received_at", Q(is_pending=False)),
    GrowingTable("telemetry", Telemetry, "received_at"),
    GrowingTable("evaluations", DriftEvaluation, "period_end"),
    GrowingTable("gate_evaluations", GateEvaluation, "at"),
    GrowingTable("incidents", Incident, "resolved_at", _RESOLVED),
    GrowingTable("device_incidents", DeviceIncident, "resolved_at", _RESOLVED),
    GrowingTable("installation_events", InstallationEvent, "received_at"),
    GrowingTable("samples", SampleBatch, "received_at", keeper="the task sweep-samples"),
    GrowingTable("step_results", StepResult, "used_at", keeper="the task sweep-jobs"),
    GrowingTable("sessions", Session, "expire_date", is_expiry=True),
    GrowingTable("api_tokens", AuthToken, "expiry", is_expiry=True),
    GrowingTable("page_log", LogEntry, "action_time"),
    GrowingTable("outbox_events", OutboxEvent, "at", keeper="the task prune-events"),
    GrowingTable("deliveries", Delivery, "created_at", keeper="the task prune-events"),
    GrowingTable("blobs", Blob, "stored_at", keeper="the task collect-garbage, once unused"),
    GrowingTable(
        "uploads", BlobUpload, "touched_at", keeper="the task drop-abandoned-uploads, after a day"
    ),
    GrowingTable("devices", Device, "created_at", keeper="a person, by decommissioning"),
    GrowingTable("installations", Installation, "updated_at", keeper=_FOREVER),
    GrowingTable("self_tests", SelfTest, "measured_at", keeper=_FOREVER),
    GrowingTable("quarantine", Quarantine, "created_at", keeper=_FOREVER),
    GrowingTable("rollouts", Rollout, "created_at", keeper=_FOREVER),
    GrowingTable("rollout_events", RolloutEvent, "at", keeper=_FOREVER),
    GrowingTable("versions", Version, "created_at", keeper=_FOREVER),
    GrowingTable("jobs", Job, "created_at", keeper=_FOREVER),
    GrowingTable("audit", AuditEvent, "at", keeper="nothing: each row vouches for the one before"),
)
#: What `AVIARY_KEEP_DAYS` may not be below: records that come a week late are still counted once.
LEAST_DAYS = {"inbox": 8, "windows": 8, "rollups": 9, "summaries": 9}


def find_table(name: str) -> GrowingTable | None:
    """The table of this name."""
    return next((table for table in TABLES if table.name == name), None)
