"""Devices: what people decide about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from fleet.authentication import new_secret
from fleet.exceptions import (
    DeviceExistsError,
    InvalidFleetInputError,
    InvalidTransitionError,
    ReasonRequiredError,
)
from fleet.models import Device, DeviceCredential, Quarantine
from fleet.polling.changes import announce_change
from registry.services.audit import record_event

#: How long a device that is let in again has to come.
READMISSION = timedelta(days=7)

DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

#: Status to the statuses it may be set to by a person.
STATUS_CHANGES: dict[str, frozenset[str]] = {
    "pending": frozenset({"accepted", "rejected"}),
    "accepted": frozenset({"suspended", "decommissioned"}),
    "suspended": frozenset({"accepted", "decommissioned"}),
    "decommissioned": frozenset(),
    "rejected": frozenset(),
}


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
def let_in_again(*, device_id: str, actor: str, reason: str) -> Device:
    """The device, whose id a join token may enrol once more within seven days.

    For a card that was rewritten, a lost credential, and a device that was decommissioned or
    rejected. What it holds now works until then; it is revoked by the enrolment.

    Raises:
        ReasonRequiredError: there is no reason.
    """
    if not reason.strip():
        raise ReasonRequiredError("Letting a device in again needs a reason")
    device = lock_device(device_id)
    device.readmitted_until = timezone.now() + READMISSION
    device.save(update_fields=["readmitted_until", "updated_at"])
    record_event(
        actor=actor,
        action="device.let_in_again",
        obj=device,
        summary=f"{device_id} may enrol again until {device.readmitted_until:%Y-%m-%d %H:%M} UTC",
        details={"reason": reason, "status": device.status},
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


def lock_device(device_id: str) -> Device:
    """The device's row, locked for the rest of the transaction."""
    return Device.objects.select_for_update().get(device_id=device_id)


def touch_device(device: Device) -> None:
    """Saves a locked device, raises its counter and drops the answers remembered for it."""
    device.generation += 1
    device.save()
    transaction.on_commit(lambda: announce_change(f"device:{device.pk}"))


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
