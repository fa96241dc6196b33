"""Writes what polls left in the cache, in bulk."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from fleet.models import Device, Installation
from fleet.polling.poll_notes import taken_polls
from fleet.rules.facts import MAX_NAME, merge_running
from registry.services.deltas import queue_deltas

logger = logging.getLogger(__name__)

CHUNK = 500


def flush_polls() -> int:
    """How many notes were written: last seen, running digest and poll counts.

    A flush that fails leaves its notes for the next one.
    """
    with taken_polls() as notes:
        by_device: dict[int, list[dict[str, Any]]] = {}
        for note in notes:
            by_device.setdefault(note["device"], []).append(note)
        keys = sorted(by_device)
        for start in range(0, len(keys), CHUNK):
            _flush_chunk({key: by_device[key] for key in keys[start : start + CHUNK]})
        return len(notes)


@transaction.atomic
def _flush_chunk(notes: dict[int, list[dict[str, Any]]]) -> None:
    replaced: set[tuple[str, str]] = set()
    devices = list(Device.objects.select_for_update().filter(pk__in=list(notes)).order_by("pk"))
    for device in devices:
        running = dict(device.running)
        for note in notes[device.pk]:
            at = datetime.fromtimestamp(note["at"], UTC)
            if device.last_seen_at is None or at > device.last_seen_at:
                device.last_seen_at = at
            device.agent_version = note["agent_version"] or device.agent_version
            model, digest = note["model"], note["running"]
            if model and digest and running.get(model) != digest:
                _mark_regressed(device, model, digest, at)
                running = merge_running(running, {model[:MAX_NAME]: digest})
            if note.get("offered") and device.has_delta_support and running.get(model):
                replaced.add((running[model], note["offered"]))
        device.running = running
        device.poll_count += len(notes[device.pk])
    if replaced:
        # Too late for these polls, in time for the rest of the fleet that makes the same step.
        queue_deltas(replaced)
    Device.objects.bulk_update(devices, ["last_seen_at", "running", "agent_version", "poll_count"])


def _mark_regressed(device: Device, model: str, digest: str, at: datetime) -> None:
    """A device that committed a release and then reports another one has regressed."""
    latest = Installation.objects.filter(device=device, model__slug=model).order_by("-id").first()
    if (
        latest is not None
        and latest.state == Installation.State.COMMITTED
        and latest.manifest_sha256 != digest
        and latest.updated_at < at
    ):
        latest.state = Installation.State.REGRESSED
        latest.code = "other_digest_reported"
        latest.detail = f"The device reports {digest[:12]}"
        latest.updated_at = at
        latest.save(update_fields=["state", "code", "detail", "updated_at"])
        logger.warning("%s has regressed from %s", device, latest.assignment_id)
