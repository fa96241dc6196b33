"""What the judging of cohorts takes and gives, and which reference it stands on; pure.

The unit is the device. The reference is the strongest there is, and its words say which:

1. each device's own past on the release before, and the control's change since;
2. the control alone, where devices have no past on a release before;
3. each device's own past alone, where every device has the target already;
4. the version's baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fleet.rules.device_changes import MIN_DEVICES
from ingest.rules.windows import WindowCounts
from registry.units import write_count

PAST_AND_CONTROL = "own past and control"
CONTROL = "control alone"
PAST = "own past alone"
BASELINE = "baseline"
REFERENCE_WORDS = {
    PAST_AND_CONTROL: "each device against its own past, and against the control's change since",
    CONTROL: "against the control alone: these devices have no past on a release before",
    PAST: "each device against its own past alone: no device is left as control",
    BASELINE: "against the version's baseline alone: there is neither a past nor a control",
}


@dataclass(frozen=True)
class DeviceHistory:
    """One device: its counts since the stage began, and on the release before the rollout."""

    after: WindowCounts
    before: WindowCounts | None = None
    hardware: str = ""


@dataclass(frozen=True)
class Evidence:
    """One metric of a canary; `value` is None when there is nothing to say.

    `details` has `lower` and `upper`, the ends of an interval that holds at every look; an end that
    is absent is open.
    """

    metric: str
    value: float | None
    control_value: float | None
    devices: int
    samples: int
    details: dict[str, Any] = field(default_factory=dict)


def too_few_words(canaries: int, controls: int) -> str:
    """Why there is no data."""
    heard = write_count(canaries, "canary", "canaries")
    return (
        f"{heard} and {write_count(controls, 'control device')} have reported; "
        f"{MIN_DEVICES} of each are the least, or a past or a baseline in the control's place"
    )
