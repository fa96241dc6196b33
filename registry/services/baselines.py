"""Baselines: computed at upload, or pinned later by a person."""

from typing import Any

from django.db import transaction

from registry.exceptions import InvalidFieldError
from registry.manifest import canonical_bytes, manifest_digest
from registry.models import Baseline, Variant, Version
from registry.services.audit import record_event

SCHEMA = "aviary.baseline/1"


@transaction.atomic
def activate_baseline(
    *,
    version: Version,
    variant: Variant | None,
    profile: dict[str, Any],
    source: str,
    reason: str,
    actor: str,
) -> Baseline:
    """The new active baseline of the variant, or of the version when `variant` is None."""
    if profile.get("schema") != SCHEMA or not profile.get("n"):
        raise InvalidFieldError(f"Expected a profile of schema {SCHEMA} with records")
    Baseline.objects.filter(version=version, variant=variant, is_active=True).update(
        is_active=False
    )
    return Baseline.objects.create(
        version=version,
        variant=variant,
        sha256=manifest_digest(canonical_bytes(profile)),
        profile=profile,
        source=source,
        reason=reason,
        actor=actor,
    )


@transaction.atomic
def pin_baseline(
    *,
    version: Version,
    variant: Variant | None,
    profile: dict[str, Any],
    source: str,
    reason: str,
    actor: str,
) -> Baseline:
    """Replaces the reference by one that a person chose, such as a healthy fleet window."""
    if not reason.strip():
        raise InvalidFieldError("Pinning a baseline needs a reason")
    baseline = activate_baseline(
        version=version,
        variant=variant,
        profile=profile,
        source=source,
        reason=reason,
        actor=actor,
    )
    record_event(
        actor=actor,
        action="baseline.pinned",
        obj=baseline,
        summary=f"A baseline from {source} was pinned for {variant or version}",
        details={"sha256": baseline.sha256, "reason": reason},
    )
    return baseline
