"""Devices: how they join, what people decide about them, what they report of themselves."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from fleet.authentication import digest_of, new_secret
from fleet.exceptions import (
    DeviceExistsError,
    InvalidFleetInputError,
    InvalidTransitionError,
    JoinTokenError,
)
from fleet.models import Device, DeviceCredential, JoinToken, Quarantine, Telemetry
from fleet.polls import bump_epoch
from fleet.services.incidents import follow_incidents
from registry.services.audit import record_event

logger = logging.getLogger(__name__)

DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
KEPT_TELEMETRY = 200
"""Reports kept of one device: over three hours at the agent's usual pace."""
TELEMETRY_EVENTS = 200
TELEMETRY_PART_BYTES = 64 * 1024

#: Status to the statuses it may be set to by a person.
STATUS_CHANGES: dict[str, frozenset[str]] = {
    "pending": frozenset({"accepted", "rejected"}),
    "accepted": frozenset({"suspended", "decommissioned"}),
    "suspended": frozenset({"accepted", "decommissioned"}),
    "decommissioned": frozenset(),
    "rejected": frozenset(),
}


@transaction.atomic
def create_join_token(
    *,
    name: str,
    actor: str,
    expires_at: datetime | None = None,
    max_uses: int = 1,
    is_auto_accept: bool = False,
    labels: Mapping[str, str] | None = None,
    created_by: Any = None,
) -> tuple[JoinToken, str]:
    """A join token and its secret, which is shown this once."""
    secret, digest = new_secret("avj")
    token = JoinToken.objects.create(
        name=name,
        digest=digest,
        labels=check_labels(labels or {}),
        is_auto_accept=is_auto_accept,
        max_uses=max_uses,
        expires_at=expires_at or timezone.now() + timedelta(days=7),
        created_by=created_by,
    )
    record_event(
        actor=actor,
        action="join_token.created",
        obj=token,
        summary=f"Join token {name} for {max_uses} devices",
        details={"is_auto_accept": is_auto_accept, "expires_at": token.expires_at.isoformat()},
    )
    return token, secret


@transaction.atomic
def revoke_join_token(*, token_id: int, actor: str) -> None:
    """No device joins with this token any more."""
    token = JoinToken.objects.select_for_update().get(pk=token_id)
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        record_event(
            actor=actor, action="join_token.revoked", obj=token, summary=f"Revoked {token.name}"
        )


@transaction.atomic
def enrol_device(
    *,
    device_id: str,
    join_token: str,
    attributes: Mapping[str, Any] | None = None,
    capabilities: Mapping[str, Any] | None = None,
    enrolment_nonce: str = "",
) -> tuple[Device, str]:
    """The enrolled device and its token, which is shown this once.

    A device that a person registered beforehand, without credentials, is taken over with the
    status it was given.

    Args:
        enrolment_nonce: a secret the device keeps until it holds its token. Who brings the same
            one again, because the answer was lost, gets another token in place of the lost one
            and uses no join token up. Empty for agents that know no nonce.

    Raises:
        JoinTokenError: unknown, expired, revoked or used up; asked first, so that ids cannot be
            probed without a token.
        DeviceExistsError: the id is taken.
    """
    now = timezone.now()
    nonce_digest = digest_of(enrolment_nonce) if enrolment_nonce else ""
    lost = find_lost_answer(device_id=device_id, nonce_digest=nonce_digest)
    if lost is not None:
        return lost.device, repeat_enrolment(lost)
    digest = digest_of(join_token)
    # One conditional update claims a use: two devices cannot both take the last one.
    claimed = JoinToken.objects.filter(
        digest=digest, revoked_at__isnull=True, expires_at__gt=now, uses__lt=F("max_uses")
    ).update(uses=F("uses") + 1)
    if claimed != 1:
        raise JoinTokenError("The join token is unknown, expired, revoked or used up")
    token = JoinToken.objects.get(digest=digest)
    if not DEVICE_ID.fullmatch(device_id):
        raise InvalidFleetInputError(
            "A device id has 1 to 128 letters, digits, '.', '_', ':' and '-'"
        )
    reported = {
        "attributes": check_labels(attributes or {}),
        "capabilities": dict(capabilities or {}),
        "agent_version": str((capabilities or {}).get("agent_version", ""))[:64],
        "last_seen_at": now,
    }
    device = Device.objects.select_for_update().filter(device_id=device_id).first()
    if device is None:
        status = Device.Status.ACCEPTED if token.is_auto_accept else Device.Status.PENDING
        try:
            with transaction.atomic():
                device = Device.objects.create(
                    device_id=device_id, status=status, labels=token.labels, **reported
                )
        except IntegrityError as error:
            raise DeviceExistsError(f"The device id {device_id} is taken") from error
    elif device.credentials.exists() or device.status in Device.TERMINAL_STATUSES:
        raise DeviceExistsError(f"The device id {device_id} is taken")
    else:
        for name, value in reported.items():
            setattr(device, name, value)
        device.labels = {**token.labels, **device.labels}
        device.generation += 1
        device.save()
    secret, secret_digest = new_secret("avd")
    DeviceCredential.objects.create(device=device, digest=secret_digest, nonce_digest=nonce_digest)
    record_event(
        actor=f"device:{device_id}",
        action="device.enrolled",
        obj=device,
        summary=f"{device_id} enrolled with join token {token.name}: {device.status}",
    )
    return device, secret


def find_lost_answer(*, device_id: str, nonce_digest: str) -> DeviceCredential | None:
    """The locked device's credential that was given for this nonce and never used, or None.

    A device that has called with its token holds it: from then on the nonce is worth nothing.
    """
    if not nonce_digest:
        return None
    device = Device.objects.select_for_update().filter(device_id=device_id).first()
    if device is None or device.status in Device.TERMINAL_STATUSES:
        return None
    found = device.credentials.filter(nonce_digest=nonce_digest, revoked_at__isnull=True).first()
    if found is None or (device.last_seen_at and device.last_seen_at > found.created_at):
        return None
    return found


def repeat_enrolment(lost: DeviceCredential) -> str:
    """A token in place of the one whose answer never arrived, which stops working."""
    lost.revoked_at = timezone.now()
    lost.save(update_fields=["revoked_at"])
    secret, digest = new_secret("avd")
    DeviceCredential.objects.create(
        device=lost.device, digest=digest, nonce_digest=lost.nonce_digest
    )
    touch_device(lost.device)
    record_event(
        actor=f"device:{lost.device}",
        action="device.enrolment_repeated",
        obj=lost.device,
        summary=f"{lost.device} asked again for the answer to its enrolment",
    )
    return secret


@transaction.atomic
def register_device(
    *, device_id: str, labels: Mapping[str, str], actor: str, status: str = "accepted"
) -> Device:
    """A device known before it first calls; it still needs a join token to enrol."""
    if not DEVICE_ID.fullmatch(device_id):
        raise InvalidFleetInputError("The device id has characters that are not allowed")
    if Device.objects.filter(device_id=device_id).exists():
        raise DeviceExistsError(f"The device id {device_id} is taken")
    device = Device.objects.create(device_id=device_id, labels=check_labels(labels), status=status)
    record_event(
        actor=actor, action="device.registered", obj=device, summary=f"Registered {device_id}"
    )
    return device


@transaction.atomic
def set_device_status(*, device_id: str, status: str, actor: str, reason: str = "") -> Device:
    """The device in its new status; decommissioning also revokes its credentials."""
    device = lock_device(device_id)
    if status == device.status:
        return device
    if status not in STATUS_CHANGES[device.status]:
        raise InvalidTransitionError(f"A device that is {device.status} cannot become {status}")
    before, device.status = device.status, status
    touch_device(device)
    if status == Device.Status.DECOMMISSIONED:
        device.credentials.filter(revoked_at__isnull=True).update(revoked_at=timezone.now())
    record_event(
        actor=actor,
        action=f"device.{status}",
        obj=device,
        summary=f"{device_id}: {before} → {status}",
        details={"reason": reason},
    )
    return device


@transaction.atomic
def set_device_labels(*, device_id: str, labels: Mapping[str, str], actor: str) -> Device:
    """The device with these labels, and whatever they select it for."""
    device = lock_device(device_id)
    before, device.labels = device.labels, check_labels(labels)
    touch_device(device)
    record_event(
        actor=actor,
        action="device.labelled",
        obj=device,
        summary=f"{device_id}: labels changed",
        details={"before": before, "after": device.labels},
    )
    return device


@transaction.atomic
def rotate_credential(*, device_id: str, actor: str) -> str:
    """A new token, shown this once; every earlier one stops working."""
    device = lock_device(device_id)
    device.credentials.filter(revoked_at__isnull=True).update(revoked_at=timezone.now())
    secret, digest = new_secret("avd")
    DeviceCredential.objects.create(device=device, digest=digest)
    touch_device(device)
    record_event(
        actor=actor,
        action="device.credential_rotated",
        obj=device,
        summary=f"{device_id}: credential rotated",
    )
    return secret


@transaction.atomic
def pin_device(
    *, device_id: str, model: str, manifest_sha256: str | None, actor: str, reason: str = ""
) -> Device:
    """Holds the device at one release of its deployment, or lets it go with None."""
    device = lock_device(device_id)
    pins = dict(device.pins)
    pins.pop(model, None)
    if manifest_sha256:
        pins[model] = manifest_sha256
    device.pins = pins
    touch_device(device)
    record_event(
        actor=actor,
        action="device.pinned" if manifest_sha256 else "device.unpinned",
        obj=device,
        summary=f"{device_id}: {model} pinned to {(manifest_sha256 or 'nothing')[:12]}",
        details={"reason": reason},
    )
    return device


@transaction.atomic
def quarantine_release(*, device: Device, manifest_sha256: str, reason: str) -> None:
    """The release is not offered to the (locked) device until a person clears it."""
    _, is_new = Quarantine.objects.get_or_create(
        device=device,
        manifest_sha256=manifest_sha256,
        cleared_at=None,
        defaults={"reason": reason[:200]},
    )
    if is_new:
        device.quarantined = sorted({*device.quarantined, manifest_sha256})
        touch_device(device)
        record_event(
            actor="system",
            action="device.quarantined",
            obj=device,
            summary=f"{device}: release {manifest_sha256[:12]} quarantined",
            details={"reason": reason},
        )


@transaction.atomic
def clear_quarantine(
    *, device_id: str, actor: str, manifest_sha256: str | None = None, reason: str = ""
) -> int:
    """How many releases may be offered to the device again: one, or all with None."""
    device = lock_device(device_id)
    found = Quarantine.objects.filter(device=device, cleared_at__isnull=True)
    if manifest_sha256 is not None:
        found = found.filter(manifest_sha256=manifest_sha256)
    digests = set(found.values_list("manifest_sha256", flat=True))
    cleared = found.update(cleared_at=timezone.now(), cleared_by=actor)
    device.quarantined = sorted(set(device.quarantined) - digests)
    touch_device(device)
    record_event(
        actor=actor,
        action="device.quarantine_cleared",
        obj=device,
        summary=f"{device_id}: {cleared} releases may be offered again",
        details={"reason": reason, "manifests": sorted(digests)},
    )
    return cleared


@transaction.atomic
def record_telemetry(*, device: Device, report: Mapping[str, Any]) -> Telemetry:
    """The stored report; what it says of the device itself becomes the device's state."""
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
    running = {
        str(model): str(digest)
        for model, digest in _mapping(report.get("running")).items()
        if isinstance(digest, str)
    }
    locked = lock_device(device.device_id)
    locked.agent_version = str(report.get("agent_version") or locked.agent_version)[:64]
    locked.running = {**locked.running, **running}
    locked.last_seen_at = row.received_at
    locked.save(update_fields=["agent_version", "running", "last_seen_at"])
    follow_incidents(device=locked, reported=report.get("incidents"), now=row.received_at)
    if row.pk % 50 == 0:
        kept = Telemetry.objects.filter(device=device).order_by("-id")[:KEPT_TELEMETRY]
        oldest = min(kept.values_list("id", flat=True), default=0)
        Telemetry.objects.filter(device=device, id__lt=oldest).delete()
    return row


def lock_device(device_id: str) -> Device:
    """The device's row, locked for the rest of the transaction."""
    return Device.objects.select_for_update().get(device_id=device_id)


def touch_device(device: Device) -> None:
    """Saves a locked device, raises its counter and makes remembered answers worthless."""
    device.generation += 1
    device.save()
    transaction.on_commit(lambda: bump_epoch(f"device:{device.pk}"))


def check_labels(labels: Mapping[str, Any]) -> dict[str, str]:
    """A flat map of short strings.

    Raises:
        InvalidFleetInputError: nested, too many or too long.
    """
    if not isinstance(labels, Mapping) or len(labels) > 64:
        raise InvalidFleetInputError("Labels are a flat map of at most 64 strings")
    for name, value in labels.items():
        if not isinstance(value, str) or len(name) > 64 or len(value) > 256:
            raise InvalidFleetInputError(f"The label {name!r} is not a short string")
    return {str(name): value for name, value in labels.items()}


def _bounded(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of a report that is an object; anything else counts as empty.

    Raises:
        InvalidFleetInputError: larger than anything an agent has to say.
    """
    value = _mapping(report.get(name))
    size = len(json.dumps(value))
    if size > TELEMETRY_PART_BYTES:
        raise InvalidFleetInputError(
            f"Telemetry: {name} has {size} bytes; at most {TELEMETRY_PART_BYTES} are taken"
        )
    return value


def _events(value: Any) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else []
    rows = [dict(item) for item in items if isinstance(item, Mapping)]
    return [row for row in rows[-TELEMETRY_EVENTS:] if len(json.dumps(row)) <= 2000]


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
