"""The protocol's assignment answer: signed documents and where the files are."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

from django.conf import settings

from fleet.rules.assignment import Assignment, assignment_payload, issue_period
from registry.keys import sign_document
from registry.manifest import canonical_bytes
from registry.models import FileRole, Variant
from registry.patches import ALGORITHM
from registry.services.blobs import blob_url
from registry.services.deltas import find_delta
from registry.services.trust import trust_hint

ASSIGNMENT_TYPE = "application/vnd.aviary.assignment.v1+json"


def make_assignment(assignment: Assignment, device_id: str, now: datetime) -> dict[str, Any]:
    """The signed envelope of the assignment, valid for seven days from its renewal period."""
    payload = assignment_payload(assignment, device_id, issue_period(device_id, now))
    return sign_document("assignment", canonical_bytes(payload), ASSIGNMENT_TYPE)


def make_answer(
    assignment: Assignment,
    device_id: str,
    now: datetime,
    request_base: str,
    *,
    delta_from: str = "",
) -> dict[str, Any]:
    """What `/api/models/latest` answers for an assignment.

    Args:
        delta_from: the manifest digest of what the device runs, when it can apply a delta to it.
    """
    ttl_seconds = settings.AVIARY_URL_TTL_SECONDS
    variant = Variant.objects.prefetch_related("files__blob").get(
        manifest_sha256=assignment.manifest_sha256
    )
    base = settings.AVIARY_PUBLIC_URL or request_base
    files = [
        {
            "path": entry.path,
            "role": entry.role,
            "sha256": entry.blob_id,
            "size_bytes": entry.blob.size_bytes,
            "url": blob_url(sha256=entry.blob_id, ttl_seconds=ttl_seconds, request_base=base),
        }
        for entry in variant.files.all()
    ]
    main = next((entry for entry in files if entry["role"] == FileRole.MODEL), None)
    rollout = None
    if assignment.rollout_id is not None:
        rollout = {
            "id": assignment.rollout_id,
            "stage": assignment.stage_index,
            "cohort": assignment.cohort,
        }
    return {
        "model_id": assignment.model,
        "version": assignment.version,
        "variant": assignment.variant,
        "sha256": main["sha256"] if main else None,
        "size_bytes": main["size_bytes"] if main else None,
        "download_url": main["url"] if main else None,
        "url_expires_s": ttl_seconds,
        "files": files,
        "manifest": variant.envelope,
        "assignment": make_assignment(assignment, device_id, now),
        "assignment_id": assignment.assignment_id,
        "rollout": rollout,
        "delta": make_delta_offer(main, delta_from, ttl_seconds, base),
        "trust": trust_hint(),
        "poll_after_s": poll_after_s(),
    }


def make_delta_offer(
    main: dict[str, Any] | None, base_manifest: str, ttl_seconds: int, request_base: str
) -> dict[str, Any] | None:
    """Where the patch lies that makes the model file `main` of the release the device runs; None
    when there is none ready. Nothing is made here: a poll never waits for that."""
    if main is None or not base_manifest:
        return None
    delta = find_delta(base_manifest=base_manifest, target_sha256=main["sha256"])
    if delta is None or delta.patch is None:
        return None
    return {
        "base_sha256": delta.base_sha256,
        "algorithm": ALGORITHM,
        "sha256": delta.patch.pk,
        "size_bytes": delta.patch.size_bytes,
        "url": blob_url(sha256=delta.patch.pk, ttl_seconds=ttl_seconds, request_base=request_base),
    }


def poll_after_s() -> int:
    """Seconds to the next poll, spread by a tenth so that a fleet does not call as one."""
    seconds = settings.AVIARY_POLL_SECONDS
    return max(1, round(seconds * random.uniform(0.9, 1.1)))
