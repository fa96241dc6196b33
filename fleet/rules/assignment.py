"""What a device should run, from a plan and the facts about the device; pure.

A *plan* is the compiled state of one model: its active deployments, each with its stable
release and, while a rollout is live, the target release and how far the rollout reaches. A plan
and its counter are one value, so equal counters always mean equal plans.

Cohorts are a pure function of the rollout's salt and the device id: no row per device, the same
answer on every server, and growing a percentage only ever adds devices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from registry.matching import Candidate, pick_candidate

BUCKETS = 10_000
LIFETIME = timedelta(days=7)
#: A device that polls gets a fresh assignment when half of the old one's life has passed.
RENEWAL = LIFETIME / 2

CANARY = "canary"
CONTROL = "control"
STABLE = "stable"


@dataclass(frozen=True)
class DeviceFacts:
    """What the decision knows about a device.

    Attributes:
        labels: what selectors see; values are strings.
        capabilities: as the device reported them: `arch`, `providers`, `memory_mb`, …
        generation: rises with every change of the other fields.
        quarantined: manifest digests this device is not to be offered.
        pin: a manifest digest a person holds this device at, or None.
    """

    device_id: str
    labels: Mapping[str, str]
    capabilities: Mapping[str, Any]
    generation: int = 0
    quarantined: frozenset[str] = frozenset()
    pin: str | None = None


@dataclass(frozen=True)
class Assignment:
    """The release a device should run, and why."""

    model: str
    version: str
    manifest_sha256: str
    variant: str
    counter: int
    floor_sequence: int
    deployment_id: int
    rollout_id: int | None
    stage_index: int | None
    cohort: str
    is_target: bool
    action: str = "install"

    @property
    def assignment_id(self) -> str:
        """The protocol's name of this assignment."""
        return f"{self.model}.{self.counter}.{self.manifest_sha256[:12]}"


def bucket_of(salt: str, device_id: str) -> int:
    """The device's place in [0, 10 000) for this rollout."""
    digest = hashlib.sha256(f"{salt}:{device_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def buckets_of_percent(percent: float) -> int:
    """How many of the 10 000 buckets a percentage covers."""
    return round(percent * BUCKETS / 100)


def matches(selector: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> bool:
    """True when every label of the selector has one of its allowed values."""
    return all(labels.get(name) in allowed for name, allowed in selector.items())


def cohort_of(rollout: Mapping[str, Any], device_id: str, labels: Mapping[str, str]) -> str:
    """`canary` when the rollout's stage reaches the device, `control`, or `stable`.

    The control cohort is as large as the canary's, taken from the other end of the hash; past
    half of the fleet it shrinks to what the canary leaves.

    Args:
        rollout: `salt`, `exposed` (buckets reached so far), `reach` (buckets of the whole
            stage) and `canaries` (selectors of this and earlier stages).
    """
    if any(selector and matches(selector, labels) for selector in rollout["canaries"]):
        return CANARY
    bucket = bucket_of(rollout["salt"], device_id)
    exposed, reach = rollout["exposed"], rollout["reach"]
    if bucket < exposed:
        return CANARY
    return CONTROL if bucket >= control_start(reach) else STABLE


def control_start(reach: int) -> int:
    """The first bucket of the control cohort of a stage that reaches so many buckets."""
    # A selector-only stage has no percentage to mirror; a tenth of the rest stands against it.
    return BUCKETS - (min(reach, BUCKETS - reach) if reach else BUCKETS // 10)


def pick_deployment(
    deployments: Sequence[Mapping[str, Any]], labels: Mapping[str, str]
) -> Mapping[str, Any] | None:
    """The matching deployment of the highest priority, the newest among equals."""
    found = [entry for entry in deployments if matches(entry["selector"], labels)]
    return max(found, key=lambda entry: (entry["priority"], entry["id"]), default=None)


def pick_variant(
    release: Mapping[str, Any] | None, device: DeviceFacts
) -> Mapping[str, Any] | None:
    """The variant of the release that fits the device best and is not quarantined on it."""
    if release is None:
        return None
    candidates = [
        # Plans of an earlier release of the server have no measured figures.
        Candidate(
            index,
            variant["requirements"],
            variant["size_bytes"],
            drop_points=variant.get("drop_points"),
            speedup=variant.get("speedup"),
        )
        for index, variant in enumerate(release["variants"])
        if variant["manifest_sha256"] not in device.quarantined
    ]
    best = pick_candidate(candidates, device.capabilities)
    return None if best is None else release["variants"][best.key]


def is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """True when two variants are the same release."""
    return bool(one["manifest_sha256"] == other["manifest_sha256"])


def assign(plan: Mapping[str, Any], counter: int, device: DeviceFacts) -> Assignment | None:
    """What the device should run of the plan's model; None when nothing is assigned.

    A device the target does not fit, or has failed on, keeps the stable release.
    The assignment's counter is the plan's plus the device's generation: both only rise, so a
    change of either raises the sum.
    """
    deployment = pick_deployment(plan["deployments"], device.labels)
    if deployment is None:
        return None
    rollout = deployment["rollout"]
    cohort = STABLE
    release = deployment["stable"]
    is_target = False
    variant: Mapping[str, Any] | None = None
    if rollout is not None:
        cohort = cohort_of(rollout, device.device_id, device.labels)
        if cohort == CANARY:
            variant = pick_variant(rollout["target"], device)
            kept = pick_variant(release, device)
            if variant is None or (kept is not None and is_same(variant, kept)):
                # Nothing changes for it: the target does not fit, or is what it runs anyway.
                cohort, variant = STABLE, None
            else:
                release, is_target = rollout["target"], True
    if device.pin:
        held = _find_pinned(deployment, device.pin)
        if held is not None:
            release, variant = held
            is_target = rollout is not None and release is rollout["target"]
            cohort = CANARY if is_target else STABLE
    if variant is None:
        variant = pick_variant(release, device)
    if variant is None or release is None:
        return None
    return Assignment(
        model=plan["model"],
        version=release["version"],
        manifest_sha256=variant["manifest_sha256"],
        variant=variant["name"],
        counter=counter + device.generation,
        floor_sequence=deployment["floor_sequence"],
        deployment_id=deployment["id"],
        rollout_id=rollout["id"] if rollout is not None and cohort != STABLE else None,
        stage_index=rollout["stage"] if rollout is not None and cohort != STABLE else None,
        cohort=cohort,
        is_target=is_target,
    )


def issue_period(device_id: str, now: datetime) -> datetime:
    """The start of the device's current renewal period, spread over devices by their hash.

    All servers answer the same within a period, so an assignment's bytes are reproducible.
    """
    seconds = int(RENEWAL.total_seconds())
    offset = int.from_bytes(hashlib.sha256(device_id.encode()).digest()[:4], "big") % seconds
    moment = int(now.timestamp())
    return datetime.fromtimestamp(moment - (moment - offset) % seconds, UTC)


def assignment_payload(
    assignment: Assignment, device_id: str, issued_at: datetime
) -> dict[str, Any]:
    """The document the server signs: this device, this release, this counter."""
    return {
        "schema": "aviary.assignment/1",
        "assignment_id": assignment.assignment_id,
        "device_id": device_id,
        "model": assignment.model,
        "manifest_sha256": assignment.manifest_sha256,
        "counter": assignment.counter,
        "floor_sequence": assignment.floor_sequence,
        "action": assignment.action,
        "issued_at": _rfc3339(issued_at),
        "expires_at": _rfc3339(issued_at + LIFETIME),
    }


def etag_of(assignment: Assignment, issued_at: datetime) -> str:
    """The quoted ETag: what the device would act on, and neither the URLs nor the counter."""
    facts = (
        assignment.model,
        assignment.manifest_sha256,
        assignment.action,
        str(assignment.floor_sequence),
        _rfc3339(issued_at),
    )
    return '"' + hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32] + '"'


def _find_pinned(
    deployment: Mapping[str, Any], digest: str
) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    rollout = deployment["rollout"]
    for release in filter(None, (deployment["stable"], rollout and rollout["target"])):
        for variant in release["variants"]:
            if variant["manifest_sha256"] == digest:
                return release, variant
    return None


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
