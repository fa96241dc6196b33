"""The documents of an assignment answer after every rule of the protocol; no I/O and no clock."""

from datetime import datetime
from typing import Any

from edge_agent.releases.factory import read_manifest
from edge_agent.releases.state import ModelState
from edge_agent.releases.trust import (
    ASSIGNMENT_TYPE,
    Assignment,
    LastActed,
    Manifest,
    TrustKey,
    check_assignment,
    check_manifest,
    parse_assignment,
    verify_envelope,
)
from edge_agent.version import __version__


def verify_answer(
    slug: str,
    answer: dict[str, Any],
    *,
    model: ModelState,
    device_id: str,
    trust_keys: tuple[TrustKey, ...],
    trusted_time: datetime,
) -> tuple[Assignment, Manifest | None]:
    """The assignment for `slug` and its manifest; None for a removal.

    Raises:
        PublishedError: a signature, a name, the counter, the time or the manifest is not right.
    """
    assignment = parse_assignment(
        verify_envelope(
            answer.get("assignment"),
            keys=trust_keys,
            payload_type=ASSIGNMENT_TYPE,
            role="assignment",
        )
    )
    check_assignment(
        assignment,
        device_id=device_id,
        model=slug,
        last=LastActed(model.counter, model.manifest_sha256, model.action),
        trusted_time=trusted_time,
    )
    if assignment.action != "install":
        return assignment, None
    manifest = read_manifest(answer.get("manifest"), trust_keys)
    check_manifest(manifest, assignment=assignment, agent_version=__version__)
    return assignment, manifest
