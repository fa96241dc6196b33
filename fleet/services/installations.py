"""What devices did with their assignments: events, offers, silence."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from fleet.exceptions import (
    AssignmentAbortedError,
    AssignmentSupersededError,
    AssignmentUnknownError,
    InvalidFleetInputError,
)
from fleet.models import Device, Installation, InstallationEvent, Rollout
from fleet.rules.assignment import Assignment
from fleet.rules.self_test_report import check_self_test
from fleet.rules.transitions import REPORTABLE, next_installation_state, state_of_report
from fleet.selectors import desired_assignment
from fleet.services.devices import lock_device, quarantine_release
from fleet.services.self_tests import keep_self_test
from registry.models import Variant

logger = logging.getLogger(__name__)

QUARANTINE_AFTER = 3
MAX_EVENTS = 200
KEPT_EVENTS = 1000
"""Of one installation; later ones are acted on and not kept."""
State = Installation.State
SELF_TESTED = (State.COMMITTED, State.FAILED)


@transaction.atomic
def record_events(
    *, device: Device, assignment_id: str, events: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """How many events were new; repeats are no-ops.

    Raises:
        AssignmentUnknownError: no such assignment was ever this device's.
    """
    reports = [_checked(event) for event in events]
    device = lock_device(device.device_id)
    installation = _find_or_offer(device, assignment_id)
    known = set(
        InstallationEvent.objects.filter(installation=installation).values_list("seq", flat=True)
    )
    accepted = 0
    for report in sorted(reports, key=lambda item: item["seq"]):
        if report["seq"] in known:
            continue
        known.add(report["seq"])
        accepted += 1
        measured = report.pop("self_test")
        if len(known) <= KEPT_EVENTS:
            InstallationEvent.objects.create(installation=installation, **report)
        _apply(device, installation, report)
        if measured is not None and report["state"] in SELF_TESTED:
            keep_self_test(
                device=device,
                installation=installation,
                report=measured,
                is_passed=report["state"] == State.COMMITTED,
                at=timezone.now(),
            )
    if accepted:
        installation.updated_at = timezone.now()
        installation.save()
    return {"accepted": accepted, "duplicates": len(reports) - accepted}


def check_still_wanted(*, device: Device, assignment_id: str) -> None:
    """Nothing, when the device is still to run the assignment's release.

    Asked after the events were kept: what a device did is true even if nobody wants it now.

    Raises:
        AssignmentAbortedError: its rollout was aborted.
        AssignmentSupersededError: the device is to run something else.
    """
    installation = Installation.objects.select_related("model", "rollout").get(
        device=device, assignment_id=assignment_id
    )
    desired = desired_assignment(device, installation.model.slug)
    if desired is not None and desired.manifest_sha256 == installation.manifest_sha256:
        return
    if installation.manifest_sha256 in device.quarantined:
        return
    rollout = installation.rollout
    if rollout is not None and rollout.state in (
        Rollout.State.ABORTING,
        Rollout.State.ABORTED,
        Rollout.State.ROLLED_BACK,
    ):
        raise AssignmentAbortedError("The rollout of this assignment was aborted")
    raise AssignmentSupersededError("The device is to run another release by now")


def offer_release(*, device: Device, assignment: Assignment, at: datetime) -> None:
    """Puts an offer on record before it is answered, so that no flush can lose it.

    Repeating it costs one query and writes nothing.
    """
    offer_releases(offers=[(device.pk, assignment)], at=at)


def offer_releases(*, offers: Sequence[tuple[int, Assignment]], at: datetime) -> None:
    """Puts offers to many devices on record, in one transaction and four statements at most.

    Args:
        offers: primary keys of devices, each with what it is about to be answered.
    """
    wanted = {(pk, assignment.assignment_id): assignment for pk, assignment in offers}
    known = Installation.objects.filter(
        device__in={pk for pk, _ in wanted},
        assignment_id__in={assignment_id for _, assignment_id in wanted},
    ).values_list("device_id", "assignment_id")
    missing = {key: wanted[key] for key in wanted.keys() - set(known)}
    if missing:
        with transaction.atomic():
            _write_offers(missing, at)


def _write_offers(missing: Mapping[tuple[int, str], Assignment], at: datetime) -> None:
    variants = {
        variant.manifest_sha256: variant
        for variant in Variant.objects.select_related("version").filter(
            manifest_sha256__in={one.manifest_sha256 for one in missing.values()}
        )
    }
    rows = [
        Installation(device_id=pk, **_offer_fields(assignment, variant, at))
        for (pk, _), assignment in sorted(missing.items(), key=lambda item: item[0])
        if (variant := variants.get(assignment.manifest_sha256)) is not None
    ]
    # Another process may have answered one of the devices at the same moment.
    Installation.objects.bulk_create(rows, ignore_conflicts=True)
    by_model: dict[int, list[int]] = {}
    for row in rows:
        by_model.setdefault(row.model_id, []).append(row.device_id)
    for model_id, devices in by_model.items():
        newer = Installation.objects.filter(
            device=OuterRef("device"), model=OuterRef("model"), pk__gt=OuterRef("pk")
        )
        _cancel(
            Installation.objects.filter(Exists(newer), device__in=devices, model_id=model_id), at
        )


def _offer_fields(assignment: Assignment, variant: Variant, at: datetime) -> dict[str, Any]:
    return {
        "assignment_id": assignment.assignment_id,
        "model_id": variant.version.model_id,
        "version": variant.version,
        "variant": variant,
        "manifest_sha256": assignment.manifest_sha256,
        "deployment_id": assignment.deployment_id,
        "rollout_id": assignment.rollout_id if assignment.is_target else None,
        "stage_index": assignment.stage_index if assignment.is_target else None,
        "cohort": assignment.cohort,
        "counter": assignment.counter,
        "offered_at": at,
        "updated_at": at,
    }


@transaction.atomic
def record_offer(*, device: Device, assignment: Assignment, at: datetime) -> Installation | None:
    """The installation of an assignment that was answered to a device; None when the release
    has gone from the registry since."""
    offer_releases(offers=[(device.pk, assignment)], at=at)
    return Installation.objects.filter(
        device=device, assignment_id=assignment.assignment_id
    ).first()


def time_out_silent(*, now: datetime, counted_from: datetime) -> int:
    """How many devices were offered something and have not been heard of it in time.

    Args:
        counted_from: since when the server could be reached without a gap. A device could not
            report before, so its time starts there at the earliest.
    """
    limit = now - timedelta(seconds=settings.AVIARY_OFFER_TIMEOUT_SECONDS)
    if counted_from > limit:
        return 0
    silent = Installation.objects.filter(
        state__in=Installation.IN_FLIGHT_STATES, updated_at__lt=limit
    )
    return silent.update(state=State.TIMED_OUT, code="timed_out", updated_at=now)


def _find_or_offer(device: Device, assignment_id: str) -> Installation:
    found = (
        Installation.objects.select_for_update(of=("self",))
        .filter(device=device, assignment_id=assignment_id)
        .first()
    )
    if found is not None:
        return found
    # An offer made before a restored backup is on no record; it is computed, not believed.
    parts = assignment_id.rsplit(".", 2)
    number = parts[1] if len(parts) == 3 else ""
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise AssignmentUnknownError("No such assignment")
    model, counter, prefix = parts[0], int(parts[1]), parts[2]
    desired = desired_assignment(device, model)
    if desired is None or len(prefix) != 12 or counter > desired.counter:
        raise AssignmentUnknownError("No such assignment")
    if not desired.manifest_sha256.startswith(prefix):
        raise AssignmentSupersededError("The device is to run another release by now")
    offered = Assignment(**{**desired.__dict__, "counter": counter})
    installation = record_offer(device=device, assignment=offered, at=timezone.now())
    if installation is None:
        raise AssignmentUnknownError("No such assignment")
    return installation


def _apply(device: Device, installation: Installation, report: dict[str, Any]) -> None:
    before = installation.state
    installation.last_seq = max(installation.last_seq, report["seq"])
    reported = state_of_report(report["state"], report["code"])
    installation.state = next_installation_state(before, reported)
    if installation.state != before or reported == before:
        installation.code = report["code"]
        installation.detail = report["detail"]
    if installation.state != before:
        logger.info("%s %s: %s", device, installation.assignment_id, installation.state)
    if report["state"] == State.COMMITTED:
        slug = installation.assignment_id.rsplit(".", 2)[0]
        device.running = {**device.running, slug: installation.manifest_sha256}
        device.save(update_fields=["running"])
    if report["state"] in (State.FAILED, State.ROLLED_BACK):
        installation.attempts += 1
        installation.save(update_fields=["attempts"])
        attempts = sum(
            Installation.objects.filter(
                device=device, manifest_sha256=installation.manifest_sha256
            ).values_list("attempts", flat=True)
        )
        if attempts >= QUARANTINE_AFTER:
            quarantine_release(
                device=device,
                manifest_sha256=installation.manifest_sha256,
                reason=f"{attempts} failed attempts; last: {report['code'] or 'no code'}",
            )


def _cancel(installations: QuerySet[Installation], at: datetime) -> None:
    """Unfinished offers end when a newer one of the same model was made to the same device."""
    installations.filter(state__in=Installation.IN_FLIGHT_STATES).update(
        state=State.CANCELLED, code="superseded", updated_at=at
    )


def _checked(event: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(event, Mapping):
        raise InvalidFleetInputError("An event is an object")
    seq, state = event.get("seq"), event.get("state")
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq < 2**62:
        raise InvalidFleetInputError("seq is a whole number from 0")
    if not isinstance(state, str) or state not in REPORTABLE:
        raise InvalidFleetInputError(
            f"state is one of {', '.join(sorted(REPORTABLE))}; got {state!r}"[:300]
        )
    at = event.get("at_monotonic_s")
    is_number = isinstance(at, int | float) and not isinstance(at, bool) and abs(at) < 1e15
    return {
        "seq": seq,
        "state": state,
        "code": str(event.get("code") or "")[:64],
        "detail": str(event.get("detail") or "")[:2000],
        "at_monotonic_s": at if is_number else None,
        "self_test": check_self_test(event.get("self_test")),
    }
