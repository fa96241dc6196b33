"""What the server answers, as far as this package reads it."""

from __future__ import annotations

from typing import Any, TypedDict


class File(TypedDict):
    """A file of a variant; `url` gives its bytes for a while."""

    path: str
    role: str
    sha256: str
    size_bytes: int
    url: str


class Variant(TypedDict):
    """One form of a version's network."""

    id: int
    name: str
    manifest_sha256: str | None
    files: list[dict[str, Any]]
    metrics: dict[str, Any]


class Version(TypedDict):
    """One trained network of a model."""

    id: int
    model: str
    version: str
    state: str
    rejection_reason: str
    notes: str
    tags: list[str]
    metrics: dict[str, Any]
    variants: list[Variant]
    created_at: str


class DataSet(TypedDict):
    """A data set of a model."""

    id: int
    name: str
    kind: str
    sha256: str
    rows: int


class Job(TypedDict):
    """A compression job."""

    id: str
    version: int
    variant_name: str
    state: str
    progress: dict[str, Any]
    error: str
    result_variant: int | None
    report: dict[str, Any]


class Deployment(TypedDict):
    """What a part of the fleet runs."""

    id: int
    name: str
    model: str
    selector: dict[str, list[str]]
    stable_version: str | None
    notices: list[str]
    proposed_rollout: int | None


class Rollout(TypedDict):
    """A change of a deployment, stage by stage."""

    id: int
    deployment: int
    model: str
    target_version: str
    state: str
    pause_kind: str
    reason: str
    current_stage: int
    stages: list[dict[str, Any]]
    devices: dict[str, int]
    events: list[dict[str, Any]]
    notices: list[str]


class Device(TypedDict):
    """A machine with an agent."""

    device_id: str
    status: str
    labels: dict[str, str]
    agent_version: str
    running: dict[str, str]
    last_seen_at: str | None


class JoinToken(TypedDict):
    """What lets devices enrol; `token` is its secret, answered when it is made and never again."""

    id: int
    name: str
    labels: dict[str, str]
    is_auto_accept: bool
    uses: int
    max_uses: int
    expires_at: str
    revoked_at: str | None
    token: str


class Incident(TypedDict):
    """One cause that went wrong."""

    id: int
    model: str
    version: str
    slice: str
    metric: str
    headline: str
    status: str
    severity: str
    opened_at: str
    resolved_at: str | None


class Upload(TypedDict):
    """How far an upload is."""

    state: str
    id: str | None
    part_bytes: int | None
    part_count: int | None
    received: list[int]
