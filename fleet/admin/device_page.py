"""What the page of one device says, gathered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db.models import Count, F, Max, Sum
from django.utils import timezone

from fleet import selectors
from fleet.admin.base import release_names, release_words, selector_words
from fleet.admin.device_drift import drift_rows
from fleet.admin.device_resources import (
    Report,
    event_rows,
    incident_words,
    provider_rows,
    resource_rows,
)
from fleet.admin.forms import format_labels
from fleet.models import Deployment, Device, Installation
from fleet.rules.assignment import Assignment

#: A device not heard from for this long counts as silent.
FRESH = timedelta(minutes=10)
HISTORY_ROWS = 30
INCIDENT_ROWS = 30
TELEMETRY_ROWS = 120

#: What other apps add to the page: each takes a device and gives what its template shows.
PANELS: list[tuple[str, Callable[[Device], dict[str, Any]]]] = []


def add_panel(template: str, gather: Callable[[Device], dict[str, Any]]) -> None:
    """Shows `template` on every device's page with what `gather` says as `panel`."""
    PANELS.append((template, gather))


def page_context(device: Device) -> dict[str, Any]:
    """The facts of the device's page; a fixed number of queries whatever it has been through."""
    assignments = selectors.desired_assignments(device)
    desired = {assignment.model: assignment for assignment in assignments}
    names = release_names(
        [*device.running.values(), *device.pins.values(), *device.quarantined]
        + [assignment.manifest_sha256 for assignment in assignments]
    )
    deployments = {
        row.pk: row
        for row in Deployment.objects.filter(pk__in={item.deployment_id for item in assignments})
    }
    telemetry = list(device.telemetry.order_by("-id")[:TELEMETRY_ROWS])
    latest = telemetry[0] if telemetry else None
    reports = [Report(row.received_at, row.resources, row.events) for row in reversed(telemetry)]
    # Those that fire come first: they have no end yet.
    found = device.incidents.order_by(F("resolved_at").desc(nulls_first=True), "-opened_at")
    incidents: list[dict[str, Any]] = [
        {"incident": row, **incident_words(row.kind, row.metric)} for row in found[:INCIDENT_ROWS]
    ]
    return {
        "device": device,
        "is_ahead": any("counter_replayed" in str(words) for words in device.trouble.values()),
        "now": timezone.now(),
        "is_fresh": bool(device.last_seen_at and timezone.now() - device.last_seen_at < FRESH),
        "releases": [
            _release_row(device, slug, desired.get(slug), names, deployments)
            for slug in sorted({*device.running, *desired})
        ],
        "quarantines": [
            {"row": row, "name": names.get(row.manifest_sha256, row.manifest_sha256[:12])}
            for row in device.quarantines.filter(cleared_at__isnull=True)
        ],
        "installations": Installation.objects.filter(device=device)
        .select_related("model", "version", "variant", "rollout", "deployment")
        .order_by("-id")[:HISTORY_ROWS],
        "telemetry": latest,
        "telemetry_since": telemetry[-1].received_at if telemetry else None,
        "resources": resource_rows(reports),
        "providers": provider_rows(latest.providers if latest else {}),
        "drift": drift_rows([row.drift for row in reversed(telemetry)]),
        "incidents": incidents,
        "firing": [row for row in incidents if row["incident"].is_firing],
        "spool": latest.spool if latest else {},
        "sampling": latest.sampling if latest else {},
        "samples": device.samples.aggregate(
            n=Count("pk"), size=Sum("size_bytes"), last=Max("received_at")
        ),
        "events": event_rows(reports),
        "panels": [{"template": template, "panel": gather(device)} for template, gather in PANELS],
        "capabilities": sorted(device.capabilities.items()),
        "attributes": sorted(device.attributes.items()),
        "labels_text": format_labels(device.labels),
    }


def _release_row(
    device: Device,
    slug: str,
    desired: Assignment | None,
    names: dict[str, str],
    deployments: dict[int, Deployment],
) -> dict[str, Any]:
    running = device.running.get(slug)
    pin = device.pins.get(slug)
    return {
        "model": slug,
        "running": release_words(slug, running, names),
        "running_digest": running,
        "desired": release_words(slug, desired.manifest_sha256, names) if desired else None,
        "desired_digest": desired.manifest_sha256 if desired else None,
        "is_current": desired is not None and desired.manifest_sha256 == running,
        "pin": pin,
        "why": _why(device, slug, desired, deployments),
    }


def _why(
    device: Device, slug: str, desired: Assignment | None, deployments: dict[int, Deployment]
) -> str:
    """In one sentence, why the device is to run what it is to run."""
    if desired is None:
        return f"No active deployment of {slug} has a release that fits this device."
    deployment = deployments.get(desired.deployment_id)
    taken = selector_words(deployment.selector) if deployment else "its selector"
    name = deployment.name if deployment else str(desired.deployment_id)
    words = f"Deployment “{name}” takes {taken}"
    if device.pins.get(slug) == desired.manifest_sha256:
        return f"{words}; a person has pinned this device to this release."
    if desired.rollout_id is None:
        return f"{words}; its stable version is {desired.version}."
    if desired.is_target:
        stage = (desired.stage_index or 0) + 1
        return f"{words}; rollout {desired.rollout_id} reaches it in stage {stage}."
    return (
        f"{words}; it is in the {desired.cohort} cohort of rollout {desired.rollout_id}, "
        f"so it keeps {desired.version}."
    )
