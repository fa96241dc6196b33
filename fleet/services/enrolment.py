"""How devices join: tokens that let them in, and credentials they get for one."""

from __future__ import annotations

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
    JoinTokenError,
)
from fleet.models import Device, DeviceCredential, JoinToken
from fleet.rules.facts import check_capabilities
from fleet.services.devices import DEVICE_ID, check_labels, touch_device
from registry.services.audit import record_event
from registry.units import write_count


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
        summary=f"Join token {name} for {write_count(max_uses, 'device')}",
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

    A device that a person registered beforehand is taken over by a token with auto-accept alone:
    another one lets nobody in without a person. One that a person let in again is taken over by
    any token, and waits for a person when that has no auto-accept.

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
        "capabilities": check_capabilities(capabilities or {}),
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
    else:
        is_readmitted = device.readmitted_until is not None and device.readmitted_until > now
        is_over = device.status in Device.TERMINAL_STATUSES
        if (device.credentials.exists() or is_over) and not is_readmitted:
            raise DeviceExistsError(
                f"The device id {device_id} is taken; a person can let it in again"
            )
        if not is_readmitted and not token.is_auto_accept:
            raise DeviceExistsError(
                f"The device id {device_id} is registered; it needs a token with auto-accept, or a "
                "person to let it in again"
            )
        for name, value in reported.items():
            setattr(device, name, value)
        if is_readmitted:
            if token.is_auto_accept:
                is_open = is_over or device.status == Device.Status.PENDING
                device.status = Device.Status.ACCEPTED if is_open else device.status
            elif device.status != Device.Status.SUSPENDED:
                device.status = Device.Status.PENDING
            device.credentials.filter(revoked_at__isnull=True).update(revoked_at=now)
            device.readmitted_until = None
            device.running, device.trouble = {}, {}
        device.labels = {**token.labels, **device.labels}
        touch_device(device)
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
