"""The protocol's assignment answer: signed documents and where the files are.

What does not depend on the device is remembered for half a minute in each process: the files of a
release with their addresses, and patches between releases. A device's signature is made once per
renewal period, as long as the root of trust stays what it is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable
from datetime import datetime
from functools import lru_cache
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
#: How long an address or a patch is told again; addresses live so much longer than they say.
REUSED_SECONDS = 30
MOST_REUSED = 1024
#: Signatures in memory of one process, about a kilobyte each.
MOST_SIGNATURES = 20_000


class _Reused:
    """Values by key for `REUSED_SECONDS`; what is not there yet is asked for again."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        now = time.monotonic()
        until, value = self._values.get(key, (0.0, None))
        if until <= now:
            value = make()
            if value is None:
                return None
            if len(self._values) >= MOST_REUSED:
                self._values.clear()
            self._values[key] = (now + REUSED_SECONDS, value)
        return value

    def clear(self) -> None:
        self._values.clear()


reused = _Reused()


def make_assignment(
    assignment: Assignment, device_id: str, now: datetime, trust: dict[str, int] | None = None
) -> dict[str, Any]:
    """The signed envelope of the assignment, valid for seven days from its renewal period.

    Args:
        trust: the root of trust it is made under; None for the one that holds now.
    """
    payload = assignment_payload(assignment, device_id, issue_period(device_id, now))
    trust = trust_hint() if trust is None else trust
    # Another root may stand for other keys, so what an earlier one's signed is not told again.
    under = (settings.AVIARY_SIGNER, str(settings.AVIARY_KEYS_DIR), *sorted(trust.items()))
    return _sign(canonical_bytes(payload), under)


@lru_cache(maxsize=MOST_SIGNATURES)
def _sign(payload: bytes, under: Hashable) -> dict[str, Any]:
    return sign_document("assignment", payload, ASSIGNMENT_TYPE)


def make_answer(
    assignment: Assignment,
    device_id: str,
    now: datetime,
    request_base: str,
    *,
    delta_from: str = "",
    trust: dict[str, int] | None = None,
    absent: set[Hashable] | None = None,
) -> dict[str, Any]:
    """What `/api/models/latest` answers for an assignment; parts of it are shared, so none is
    changed.

    Args:
        delta_from: the manifest digest of what the device runs, when it can apply a delta to it.
        trust: the hint of the root of trust, where the caller has it.
        absent: what a caller with many devices keeps for them all: deltas that are not there.
    """
    base = settings.AVIARY_PUBLIC_URL or request_base
    digest = assignment.manifest_sha256
    release = reused.get((digest, base), lambda: _make_release(digest, base))
    rollout = None
    if assignment.rollout_id is not None:
        rollout = {
            "id": assignment.rollout_id,
            "stage": assignment.stage_index,
            "cohort": assignment.cohort,
        }
    main_sha256 = release["sha256"]
    delta = None
    step = (delta_from, main_sha256, base)
    if main_sha256 and delta_from and step not in (absent or ()):
        delta = reused.get(step, lambda: make_delta_offer(main_sha256, delta_from, base))
        if delta is None and absent is not None:
            absent.add(step)
    trust = trust_hint() if trust is None else trust
    return {
        "model_id": assignment.model,
        "version": assignment.version,
        "variant": assignment.variant,
        **release,
        "assignment": make_assignment(assignment, device_id, now, trust),
        "assignment_id": assignment.assignment_id,
        "rollout": rollout,
        "delta": delta,
        "trust": trust,
        "poll_after_s": poll_after_s(),
    }


def _make_release(manifest_sha256: str, base: str) -> dict[str, Any]:
    """The part of the answer that is the same for every device."""
    variant = Variant.objects.prefetch_related("files__blob").get(manifest_sha256=manifest_sha256)
    files = [
        {
            "path": entry.path,
            "role": entry.role,
            "sha256": entry.blob_id,
            "size_bytes": entry.blob.size_bytes,
            "url": _url_of(entry.blob_id, base),
        }
        for entry in variant.files.all()
    ]
    main = next((entry for entry in files if entry["role"] == FileRole.MODEL), None)
    return {
        "sha256": main["sha256"] if main else None,
        "size_bytes": main["size_bytes"] if main else None,
        "download_url": main["url"] if main else None,
        "url_expires_s": settings.AVIARY_URL_TTL_SECONDS,
        "files": files,
        "manifest": variant.envelope,
    }


def make_delta_offer(main_sha256: str, base_manifest: str, base: str) -> dict[str, Any] | None:
    """Where the patch lies that makes the model file of the release the device runs; None when
    there is none ready. Nothing is made here: a poll never waits for that."""
    delta = find_delta(base_manifest=base_manifest, target_sha256=main_sha256)
    if delta is None or delta.patch is None:
        return None
    return {
        "base_sha256": delta.base_sha256,
        "algorithm": ALGORITHM,
        "sha256": delta.patch.pk,
        "size_bytes": delta.patch.size_bytes,
        "url": _url_of(delta.patch.pk, base),
    }


def _url_of(sha256: str, base: str) -> str:
    ttl_seconds = settings.AVIARY_URL_TTL_SECONDS + REUSED_SECONDS
    return blob_url(sha256=sha256, ttl_seconds=ttl_seconds, request_base=base)


def poll_after_s() -> int:
    """Seconds to the next poll, spread by a tenth so that a fleet does not call as one."""
    seconds = settings.AVIARY_POLL_SECONDS
    return max(1, round(seconds * random.uniform(0.9, 1.1)))
