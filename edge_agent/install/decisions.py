"""What to do about a verified assignment: from the state and the documents alone, with no I/O."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge_agent.releases.state import ModelState
from edge_agent.releases.trust import Assignment, Manifest


@dataclass(frozen=True)
class SelfTestResult:
    is_passed: bool
    code: str = ""
    detail: str = ""
    is_device_fault: bool = False
    """The release may be good: this device cannot run it as it is set up now."""
    measured: dict[str, Any] | None = None
    """What came out, passed or not: `self_test` of docs/protocol.md; None where nothing ran."""


class Act(StrEnum):
    NOTHING = "nothing"
    REMOVE = "remove"
    REFUSE = "refuse"
    """Note the assignment, and tell the server why its release will not run."""
    KEEP = "keep"
    """Note the assignment: its release is the one that runs."""
    TRY = "try"
    """The release is here; its trial was interrupted."""
    INSTALL = "install"


@dataclass(frozen=True)
class NextStep:
    act: Act
    code: str = ""
    detail: str = ""


def decide(
    model: ModelState,
    assignment: Assignment,
    manifest: Manifest | None,
    *,
    unable: SelfTestResult | None,
) -> NextStep:
    """What `assignment` asks of a device in the state `model`.

    Args:
        manifest: of the assigned release; None for a removal.
        unable: what came of the release here earlier in this process, where that was the device's
            fault.
    """
    if model.is_pinned:
        return NextStep(Act.NOTHING)
    if manifest is None:
        return NextStep(Act.REMOVE)
    # An assignment acted on before is not reported on again.
    is_new = assignment.counter > model.counter
    reason = model.blocked.get(manifest.digest)
    if reason is not None:
        return NextStep(Act.REFUSE, "blocked", reason) if is_new else NextStep(Act.NOTHING)
    if unable is not None:
        refusal = NextStep(Act.REFUSE, unable.code, unable.detail)
        return refusal if is_new else NextStep(Act.NOTHING)
    if model.current is not None and model.current.manifest_sha256 == manifest.digest:
        return NextStep(Act.KEEP if is_new or model.trial is not None else Act.NOTHING)
    if model.trial is not None and model.trial.manifest_sha256 == manifest.digest:
        return NextStep(Act.TRY)
    return NextStep(Act.INSTALL)
