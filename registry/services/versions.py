"""Versions: uploaded, validated in a child process, and moved by people from state to state."""

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from registry import hooks
from registry.exceptions import AviaryError, InvalidFieldError, StateError, UnavailableError
from registry.models import Variant, Version, VersionState
from registry.services.audit import record_event
from registry.services.blobs import discard_blob
from registry.services.contracts import correct_contract, find_conflict, take_contract
from registry.services.inspection import FileSpec, inspect_files
from registry.services.uploads import upload_version
from registry.services.variants import finish_variant
from registry.states import PERSON_TARGETS, can_move

__all__ = [
    "DECIDE_VERSION",
    "correct_contract",
    "edit_version",
    "transition_version",
    "upload_version",
    "validate_version",
    "versions_to_validate",
]

logger = logging.getLogger(__name__)

DECIDE_VERSION = "registry.decide_version"
CLAIM_TIMEOUT = timedelta(minutes=5)
MAX_ATTEMPTS = 3


def validate_version(*, version_id: int) -> Version:
    """The version as validation left it: ready or rejected.

    Safe to call twice at once: one caller claims the work, the other changes nothing.
    """
    now = timezone.now()
    # Claimed by a conditional update that must change exactly one row.
    claimed = (
        Version.objects.awaiting_validation()
        .filter(pk=version_id)
        .filter(Q(validation_started_at=None) | Q(validation_started_at__lt=now - CLAIM_TIMEOUT))
        .update(validation_started_at=now)
    )
    version = Version.objects.select_related("model", "dataset__blob").get(pk=version_id)
    if claimed != 1:
        return version
    version.validation_attempts += 1
    version.save(update_fields=["validation_attempts"])
    if version.validation_attempts > MAX_ATTEMPTS:
        return _reject(version, f"Validation did not finish in {MAX_ATTEMPTS} attempts")
    variant = version.variants.get()
    try:
        inspection = inspect_files(
            model=version.model,
            files=[FileSpec(f.path, f.role, f.blob_id) for f in variant.files.all()],
            contract_given=version.contract_given,
            dataset_sha256=version.dataset.blob_id if version.dataset else None,
            golden_inputs_sha256=None,
        )
        with transaction.atomic():
            version = _lock(version_id)
            if version.state != VersionState.VALIDATING:
                return version
            version.signature = inspection.signature
            version.validation_notes = inspection.notes
            question = inspection.question or find_conflict(version, inspection.contract)
            if question:
                return _ask(version, question)
            version.state = VersionState.READY
            take_contract(version, inspection.contract)
            if inspection.profile is not None and inspection.profile["accuracy"] is not None:
                version.metrics = {
                    "accuracy": inspection.profile["accuracy"],
                    **version.metrics,
                }
            version.save()
            variant = version.variants.select_related("version__model").get()
            finish_variant(
                variant=variant,
                inspection=inspection,
                golden_tolerance=variant.provenance.get("golden_tolerance"),
                actor="system",
            )
            record_event(
                actor="system",
                action="version.validated",
                obj=version,
                summary=f"{version} is ready",
                details={
                    "manifest_sha256": variant.manifest_sha256,
                    "contract": version.contract,
                    "notes": version.validation_notes,
                },
            )
            return version
    except UnavailableError as error:
        # Nothing is wrong with the version: the sweep has it validated again.
        logger.warning("%s was not validated now: %s", version, error)
        Version.objects.filter(pk=version_id, state=VersionState.VALIDATING).update(
            validation_started_at=None
        )
        return version
    except AviaryError as error:
        return _reject(version, error.message)


def _ask(version: Version, question: str) -> Version:
    """The version, unclear: its files stay, and nothing of it runs until somebody answers."""
    version.state, version.question = VersionState.UNCLEAR, question[:4000]
    version.save()
    record_event(
        actor="system",
        action="version.unclear",
        obj=version,
        summary=f"{version} waits for a word on its outputs",
        details={"question": version.question},
    )
    return version


def versions_to_validate() -> list[int]:
    """Ids of versions that nobody is validating: new ones, and those of a lost worker."""
    stale = timezone.now() - CLAIM_TIMEOUT
    return list(
        Version.objects.awaiting_validation()
        .filter(Q(validation_started_at=None) | Q(validation_started_at__lt=stale))
        .order_by("pk")
        .values_list("pk", flat=True)[:100]
    )


@transaction.atomic
def transition_version(*, version_id: int, to: str, actor: str, reason: str = "") -> Version:
    """The version in its new state, with all that follows for deployments and rollouts.

    Raises:
        StateError: there is no such way. InvalidFieldError: yanking needs a reason.
    """
    if to not in PERSON_TARGETS:
        raise InvalidFieldError(f"to is one of {sorted(PERSON_TARGETS)}", {"to": to})
    if to == VersionState.YANKED and not reason.strip():
        raise InvalidFieldError("Yanking a version needs a reason", {"reason": "required"})
    version = _lock(version_id)
    if version.state == to:
        return version
    if not can_move(version.state, to):
        raise StateError(
            f"{version} cannot go from {version.state} to {to}",
            {"state": version.state, "to": to},
        )
    before, version.state = version.state, to
    version.save(update_fields=["state"])
    # Before the audit event, whose chain is locked to the end: plans and rollouts come first.
    hooks.version_moved(version, before, hooks.Change(actor, reason))
    record_event(
        actor=actor,
        action=f"version.{to}",
        obj=version,
        summary=f"{version} went from {before} to {to}",
        details={"from": before, "to": to, "reason": reason},
    )
    return version


@transaction.atomic
def edit_version(
    *, version_id: int, actor: str, notes: str | None = None, tags: Sequence[str] | None = None
) -> Version:
    """The version with new notes or tags: the only things that may change once it is ready."""
    version = _lock(version_id)
    changed: dict[str, Any] = {}
    if notes is not None and notes != version.notes:
        version.notes = changed["notes"] = notes
    if tags is not None and list(tags) != version.tags:
        version.tags = changed["tags"] = list(tags)
    if changed:
        version.save(update_fields=list(changed))
        record_event(
            actor=actor,
            action="version.edited",
            obj=version,
            summary=f"{version}: {', '.join(changed)} changed",
            details=changed,
        )
    return version


def _lock(version_id: int) -> Version:
    version: Version = (
        # No key changes, so rows that point here can be written meanwhile.
        Version.objects.select_for_update(of=("self",), no_key=True)
        .select_related("model", "dataset__blob")
        .get(pk=version_id)
    )
    return version


def _reject(version: Version, reason: str) -> Version:
    with transaction.atomic():
        version = _lock(version.pk)
        if version.state != VersionState.VALIDATING:
            return version
        digests = _drop_variants(version.variants.all())
        version.state = VersionState.REJECTED
        version.rejection_reason = reason[:4000]
        version.save(update_fields=["state", "rejection_reason"])
        record_event(
            actor="system",
            action="version.rejected",
            obj=version,
            summary=f"{version} was rejected: {reason[:500]}",
            details={"reason": reason[:4000], "files": digests},
        )
    for file in digests.values():
        discard_blob(sha256=file)
    return version


def _drop_variants(variants: Any) -> Mapping[str, str]:
    digests: dict[str, str] = {}
    variant: Variant
    for variant in variants:
        digests.update(variant.files.values_list("path", "blob_id"))
        variant.delete()
    return digests
