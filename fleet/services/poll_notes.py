"""Writes what polls left behind, in bulk."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from django.db import connection, transaction

from fleet.models import Device, Installation
from fleet.polling.poll_notes import PollNote, taken_polls
from fleet.rules.facts import MAX_NAME, merge_running
from registry.services.deltas import queue_deltas

logger = logging.getLogger(__name__)

CHUNK = 500
#: A flush begins no further part after this; the next one goes on.
LONGEST_SECONDS = 60.0


def flush_polls() -> int:
    """How many polls were written: last seen, running digest and poll counts; until none is left.

    A flush that fails leaves its notes for the next one.
    """
    written, until = 0, time.monotonic() + LONGEST_SECONDS
    while True:
        with taken_polls() as notes:
            _write(notes)
        written += sum(note.polls for note in notes)
        if not notes or time.monotonic() > until:
            return written


class _Seen(NamedTuple):
    """What all notes of one device say of its polls."""

    at: datetime
    polls: int
    agent_version: str


@transaction.atomic
def _write(notes: Sequence[PollNote]) -> None:
    by_device: dict[int, list[PollNote]] = {}
    for note in notes:
        by_device.setdefault(note.device, []).append(note)
    keys = sorted(by_device)
    seen = {key: _add_up(by_device[key]) for key in keys}
    for start in range(0, len(keys), CHUNK):
        part = keys[start : start + CHUNK]
        _note_running([note for key in part for note in by_device[key]])
        _note_seen({key: seen[key] for key in part})


def _add_up(notes: Sequence[PollNote]) -> _Seen:
    latest = sorted(notes, key=lambda note: note.at)
    versions = [note.agent_version for note in latest if note.agent_version]
    return _Seen(
        datetime.fromtimestamp(latest[-1].at, UTC),
        sum(note.polls for note in notes),
        versions[-1] if versions else "",
    )


def _note_seen(seen: dict[int, _Seen]) -> None:
    """Last seen, count and agent version, one statement for all on PostgreSQL."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                _SEEN,
                [
                    list(seen),
                    [row.at for row in seen.values()],
                    [row.polls for row in seen.values()],
                    [row.agent_version for row in seen.values()],
                ],
            )
        return
    devices = list(Device.objects.select_for_update().filter(pk__in=seen).order_by("pk"))
    for device in devices:
        row = seen[device.pk]
        if device.last_seen_at is None or row.at > device.last_seen_at:
            device.last_seen_at = row.at
        device.agent_version = row.agent_version or device.agent_version
        device.poll_count += row.polls
    Device.objects.bulk_update(devices, ["last_seen_at", "agent_version", "poll_count"])


# Locked in the order of their keys, as every statement that takes many devices does.
_SEEN = """
WITH seen AS (
    SELECT * FROM unnest(%s::bigint[], %s::timestamptz[], %s::bigint[], %s::text[])
        AS s (device, at, polls, agent_version)
), locked AS (
    SELECT d.id FROM fleet_device d JOIN seen ON seen.device = d.id ORDER BY d.id
    FOR NO KEY UPDATE OF d
)
UPDATE fleet_device d SET
    last_seen_at = greatest(d.last_seen_at, seen.at),
    poll_count = d.poll_count + seen.polls,
    agent_version = CASE seen.agent_version WHEN '' THEN d.agent_version
        ELSE seen.agent_version END
FROM seen JOIN locked ON locked.id = seen.device
WHERE d.id = seen.device
"""


def _note_running(notes: Sequence[PollNote]) -> None:
    """What devices say they run, where it is news, and which step between releases they make."""
    said = {note.device for note in notes if note.model and (note.running or note.offered)}
    known = dict(Device.objects.filter(pk__in=said).values_list("pk", "running"))
    news = {
        note.device
        for note in notes
        if note.device in known
        and note.model
        and (note.offered or (note.running and known[note.device].get(note.model) != note.running))
    }
    if not news:
        return
    replaced: set[tuple[str, str]] = set()
    devices = {
        device.pk: device
        for device in Device.objects.select_for_update().filter(pk__in=news).order_by("pk")
    }
    for note in sorted(notes, key=lambda note: note.at):
        device = devices.get(note.device)
        if device is None:
            continue
        running, model, digest = dict(device.running), note.model, note.running
        if model and digest and running.get(model) != digest:
            _mark_regressed(device, model, digest, datetime.fromtimestamp(note.at, UTC))
            device.running = running = merge_running(running, {model[:MAX_NAME]: digest})
        if note.offered and device.has_delta_support and running.get(model):
            replaced.add((running[model], note.offered))
    if replaced:
        # Too late for these polls, in time for the rest of the fleet that makes the same step.
        queue_deltas(replaced)
    Device.objects.bulk_update(devices.values(), ["running"])


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
