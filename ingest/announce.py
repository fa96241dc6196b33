"""Which changes of incidents are told to the world outside."""

from __future__ import annotations

from datetime import datetime

from ingest.models import Incident
from registry.events import Event, Level, declare_kinds

KINDS = {
    "incident.opened": "Drift or an alert rule's metric stayed beyond its limit.",
    "incident.escalated": "An incident became critical.",
    "incident.acknowledged": "A person took an incident over.",
    "incident.resolved": "An incident is over.",
}
_ACTIONS = {
    "fired": "incident.opened",
    "reopened": "incident.opened",
    "escalated": "incident.escalated",
    "acknowledged": "incident.acknowledged",
    "resolved": "incident.resolved",
}


def connect() -> None:
    """Registers what this app tells; once, when the app is ready."""
    declare_kinds(KINDS)


def tell_incident(
    incident: Incident, action: str, actor: str, reason: str, now: datetime
) -> list[Event]:
    """What a change of an incident means outside: nothing while it is muted, unless it ends."""
    is_raised = incident.status in Incident.RAISED_STATUSES
    kind = "incident.opened" if action == "opened" and is_raised else _ACTIONS.get(action)
    is_muted = incident.muted_until is not None and incident.muted_until > now
    if kind is None or (is_muted and kind != "incident.resolved"):
        return []
    version = incident.version
    # Taking over is told each time; it neither begins nor ends the trouble.
    cause = "" if kind == "incident.acknowledged" else f"incident/{incident.pk}"
    return [
        Event(
            kind=kind,
            level=Level(incident.severity),
            summary=f"{incident.model.slug} {version.version}: {incident}",
            at=now,
            actor=actor,
            model=incident.model.slug,
            cause=cause,
            is_over=kind == "incident.resolved",
            path=incident.get_absolute_url(),
            details={
                "incident": incident.pk,
                "version": version.version,
                "slice": incident.slice,
                "metric": incident.metric,
                "value": incident.value,
                "threshold": incident.threshold,
                "reason": reason,
            },
        )
    ]
