"""What makes the stages of a rollout a plan; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.rules.assignment import BUCKETS, buckets_of_percent

SMALLEST_PERCENT = 100 / BUCKETS
MAX_STAGES = 50


def find_stage_fault(stages: Sequence[Mapping[str, Any]]) -> str | None:
    """Why the stages cannot be a rollout's, in words; None when they can.

    Args:
        stages: each with `percent` (0 to 100, of the deployment's devices) and
            `canary_selector`, in order.
    """
    if not 1 <= len(stages) <= MAX_STAGES:
        return f"A rollout has 1 to {MAX_STAGES} stages; got {len(stages)}"
    before = 0.0
    for number, stage in enumerate(stages, start=1):
        percent = float(stage.get("percent") or 0)
        if not math.isfinite(percent) or not 0 <= percent <= 100:
            return f"Stage {number}: percent is between 0 and 100; got {percent:g}"
        if percent and not buckets_of_percent(percent):
            return (
                f"Stage {number} reaches no device: {percent:g} % is none of {BUCKETS:,} parts; "
                f"the smallest stage is {SMALLEST_PERCENT:g} %"
            )
        if not percent and not stage.get("canary_selector"):
            return f"Stage {number} reaches no device: it has neither percent nor selector"
        if percent < before:
            return (
                "Stages rise and end at 100 percent; "
                f"stage {number} falls from {before:g} to {percent:g}"
            )
        before = percent
    if before != 100:
        return f"Stages rise and end at 100 percent; the last one reaches {before:g}"
    return None
