"""What devices report of themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from fleet.exceptions import (
    InvalidFleetInputError,
)
from fleet.models import Device, Telemetry
from fleet.rules.facts import check_running, merge_running
from fleet.services.devices import lock_device, touch_device
from fleet.services.incidents import follow_incidents

KEPT_TELEMETRY = 200
"""Reports kept of one device: over three hours at the agent's usual pace."""
TELEMETRY_EVENTS = 200
TELEMETRY_PART_KEYS = 256
TROUBLE_ROWS = 32
TELEMETRY_PART_BYTES = 64 * 1024


@transaction.atomic
def record_telemetry(*, device: Device, report: Mapping[str, Any]) -> Telemetry:
    """The stored report; what it says of the device itself becomes the device's state."""
    running = check_running(report.get("running"))
    row = Telemetry.objects.create(
        device=device,
        resources=_bounded(report, "resources"),
        providers=_bounded(report, "providers"),
        spool=_bounded(report, "spool"),
        drift=_bounded(report, "drift"),
        latency=_bounded(report, "latency"),
        sampling=_bounded(report, "sampling"),
        events=_events(report.get("events")),
    )
    locked = lock_device(device.device_id)
    locked.agent_version = str(report.get("agent_version") or locked.agent_version)[:64]
    locked.running = merge_running(locked.running, running)
    locked.last_seen_at = row.received_at
    locked.trouble = _trouble(report.get("trouble"))
    locked.save(update_fields=["agent_version", "running", "last_seen_at", "trouble"])
    isa = _instruction_sets(report)
    if isa is not None and isa != locked.capabilities.get("isa"):
        # Another variant may fit from now on.
        locked.capabilities = {**locked.capabilities, "isa": isa}
        touch_device(locked)
    follow_incidents(device=locked, reported=report.get("incidents"), now=row.received_at)
    if row.pk % 50 == 0:
        kept = Telemetry.objects.filter(device=device).order_by("-id")[:KEPT_TELEMETRY]
        oldest = min(kept.values_list("id", flat=True), default=0)
        Telemetry.objects.filter(device=device, id__lt=oldest).delete()
    return row


def _bounded(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of a report that is an object; anything else counts as empty.

    Raises:
        InvalidFleetInputError: larger than anything an agent has to say.
    """
    value = _mapping(report.get(name))
    if len(value) > TELEMETRY_PART_KEYS:
        raise InvalidFleetInputError(
            f"Telemetry: {name} has {len(value)} keys; at most {TELEMETRY_PART_KEYS} are taken"
        )
    size = len(json.dumps(value))
    if size > TELEMETRY_PART_BYTES:
        raise InvalidFleetInputError(
            f"Telemetry: {name} has {size} bytes; at most {TELEMETRY_PART_BYTES} are taken"
        )
    return value


def _instruction_sets(report: Mapping[str, Any]) -> list[str] | None:
    """What the processor has, or None where the report says nothing that can be used."""
    value = _mapping(report.get("capabilities")).get("isa")
    if not isinstance(value, list) or len(value) > 32:
        return None
    names = [name for name in value if isinstance(name, str) and len(name) <= 32]
    return names if len(names) == len(value) else None


def _trouble(value: Any) -> dict[str, str]:
    """At most 32 short texts by what they are about; older agents say nothing."""
    rows = list(_mapping(value).items())[:TROUBLE_ROWS]
    return {str(name)[:128]: str(words)[:300].replace("\0", "") for name, words in rows}


def _events(value: Any) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else []
    rows = [dict(item) for item in items if isinstance(item, Mapping)]
    return [row for row in rows[-TELEMETRY_EVENTS:] if len(json.dumps(row)) <= 2000]


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
