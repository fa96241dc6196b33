"""Which decisions and findings of the fleet are told to the world outside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.urls import reverse

from fleet.models import Device, DeviceIncident, Rollout
from registry.events import Event, Level, declare_kinds, tell_audits_of
from registry.models import AuditEvent

KINDS = {
    "rollout.approval_needed": "A rollout waits for a person to approve it.",
    "rollout.started": "A rollout's first devices are offered the new release.",
    "rollout.stage_reached": "A rollout went on to its next stage.",
    "rollout.gate_failed": "A gate holds a rollout.",
    "rollout.stalled": "A rollout is held because there is not enough evidence.",
    "rollout.paused": "A person paused a rollout.",
    "rollout.resumed": "A rollout that was held goes on.",
    "rollout.completed": "A rollout reached all its devices and passed.",
    "rollout.aborted": "A rollout was ended; its devices go back.",
    "rollout.rolled_back": "The devices of an aborted rollout are off its release.",
    "device.enrolled": "A device enrolled.",
    "device.quarantined": "A release was set aside on a device that took it back too often.",
    "device.credential_changed": "A device's credential was replaced or repeated.",
    "device_incident.opened": "A device found something wrong with itself.",
    "device_incident.resolved": "What a device found wrong with itself is over.",
    "deployment.set_at_once": "A person changed what devices run without a rollout.",
}
_DEVICES = {
    "device.enrolled": ("device.enrolled", Level.INFO),
    "device.quarantined": ("device.quarantined", Level.WARNING),
    "device.credential_rotated": ("device.credential_changed", Level.WARNING),
    "device.enrolment_repeated": ("device.credential_changed", Level.WARNING),
}


def connect() -> None:
    """Registers what this app tells; once, when the app is ready."""
    declare_kinds(KINDS)
    tell_audits_of("fleet.rollout", tell_rollout)
    tell_audits_of("fleet.device", tell_device)
    tell_audits_of("fleet.deployment", tell_deployment)


def tell_rollout(audit: AuditEvent, rollout: Any) -> Event | None:
    """A step of a rollout that people wait for or must know of."""
    found = _rollout_kind(audit.action.removeprefix("rollout."), rollout, audit.actor)
    if found is None:
        return None
    kind, level, is_trouble = found
    deployment, version = rollout.deployment, rollout.target_version
    reason = str(audit.details.get("reason", ""))
    words = KINDS[kind].rstrip(".").replace("A rollout", "").replace("A gate", "a gate").strip()
    return Event(
        kind=kind,
        level=level,
        summary=f"Rollout {rollout.pk} of {deployment.name} to {version.version}, stage "
        f"{rollout.current_stage + 1}: {reason or words}",
        at=audit.at,
        actor=audit.actor,
        model=deployment.model.slug,
        cause=f"rollout/{rollout.pk}/held" if is_trouble or kind == "rollout.resumed" else "",
        is_over=kind == "rollout.resumed",
        path=rollout.get_absolute_url(),
        details={
            "rollout": rollout.pk,
            "deployment": deployment.name,
            "version": version.version,
            "state": str(rollout.state),
            "stage": rollout.current_stage + 1,
            "reason": reason,
        },
    )


def _rollout_kind(action: str, rollout: Rollout, actor: str) -> tuple[str, Level, bool] | None:
    state = Rollout.State
    if action in ("start", "approve"):
        if rollout.state == state.RUNNING:
            return "rollout.started", Level.INFO, False
        is_waiting = rollout.state == state.AWAITING_APPROVAL
        return ("rollout.approval_needed", Level.INFO, False) if is_waiting else None
    if action == "pause":
        kind = {
            Rollout.PauseKind.GATE: "rollout.gate_failed",
            Rollout.PauseKind.NO_EVIDENCE: "rollout.stalled",
        }.get(Rollout.PauseKind(rollout.pause_kind))
        return (kind, Level.WARNING, True) if kind else ("rollout.paused", Level.INFO, False)
    if action == "abort":
        level = Level.CRITICAL if actor == "system" else Level.WARNING
        return "rollout.aborted", level, False
    if action == "finish_abort":
        return "rollout.rolled_back", Level.WARNING, False
    kind = {
        "advance": "rollout.stage_reached",
        "resume": "rollout.resumed",
        "complete": "rollout.completed",
    }.get(action)
    return (kind, Level.INFO, False) if kind else None


def tell_device(audit: AuditEvent, device: Any) -> Event | None:
    """A device that came, was set aside, or has another credential."""
    if audit.action not in _DEVICES:
        return None
    kind, level = _DEVICES[audit.action]
    return Event(
        kind=kind,
        level=level,
        summary=audit.summary,
        at=audit.at,
        actor=audit.actor,
        device=device.device_id,
        path=reverse("admin:fleet_device_change", args=[device.pk]),
        details={"status": str(device.status), "labels": dict(device.labels)},
    )


def tell_deployment(audit: AuditEvent, deployment: Any) -> Event | None:
    """A deployment that was set without a rollout."""
    if audit.action != "deployment.set_at_once":
        return None
    return Event(
        kind="deployment.set_at_once",
        level=Level.WARNING,
        summary=audit.summary,
        at=audit.at,
        actor=audit.actor,
        model=deployment.model.slug,
        path=deployment.get_absolute_url(),
        details={"deployment": deployment.name},
    )


def tell_incident(device: Device, incident: DeviceIncident, now: datetime) -> Event:
    """What a device found wrong with itself, or that it is over."""
    is_over = incident.resolved_at is not None
    subject = f"{incident.metric} of {incident.model_slug}" if incident.model_slug else (
        incident.metric
    )  # fmt: skip
    return Event(
        kind="device_incident.resolved" if is_over else "device_incident.opened",
        level=Level.WARNING,
        summary=f"{device.device_id}: {subject} {'is over' if is_over else 'fires'}",
        at=now,
        actor=f"device:{device.device_id}",
        model=incident.model_slug,
        device=device.device_id,
        cause=f"device/{device.pk}/{incident.kind}/{incident.model_slug}/{incident.metric}",
        is_over=is_over,
        path=reverse("admin:fleet_device_change", args=[device.pk]),
        details={
            "metric": incident.metric,
            "value": incident.value,
            "threshold": incident.threshold,
        },
    )
