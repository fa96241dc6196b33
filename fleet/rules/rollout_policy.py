"""What happens to a rollout next; pure: values in, a decision out, `now` passed in.

The rules, in the order they are asked:

1. Failures of devices abort: a number that a person chose, or evidence of 20 to 1 that the true
   rate is above its limit, which may be looked at after every device.
2. A failing gate does what it says: abort or pause. A dry-run gate never does anything.
3. A person's pause stays until a person resumes; automation lifts only the pauses it made for
   missing evidence, once the evidence is there.
4. A stage ends when its bake has elapsed, enough devices have answered, enough of them
   succeeded, and every gate passes. It then advances on its own, or waits for a person.
5. A stage that is past its bake and its patience without all of that pauses. Never on silence
   does it advance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.rules.failure_rate import failure_e_value, is_rate_exceeded
from fleet.rules.gates import Verdict
from registry.units import write_count


class Action(StrEnum):
    """What to do now."""

    WAIT = "wait"
    ADVANCE = "advance"
    COMPLETE = "complete"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


@dataclass(frozen=True)
class GateReading:
    """A gate's latest answer and what it is to do when it fails."""

    metric: str
    verdict: Verdict
    action: str
    is_dry_run: bool = False
    #: What would decide it, in words, while it is open.
    advice: str = ""


@dataclass(frozen=True)
class RolloutFacts:
    """All that a decision rests on; counts are devices, each counted once.

    Attributes:
        state: `running` or `paused`; in any other state nothing is decided.
        pause_kind: `person`, `gate` or `no_evidence` while paused.
        succeeded, failed: devices that finished; silent ones past their time are failed.
        is_exposed: the whole stage has been offered; False while a throttle holds it back.
        reached: accepted devices for which the stage changes something; None where not counted.
    """

    state: str
    pause_kind: str
    is_last_stage: bool
    is_automatic: bool
    stage_started_at: datetime
    bake: timedelta
    patience: timedelta
    min_devices: int
    success_threshold: float
    succeeded: int
    failed: int
    max_failures: int | None
    max_failure_rate: float
    is_exposed: bool = True
    reached: int | None = None
    gates: Sequence[GateReading] = field(default_factory=tuple)


@dataclass(frozen=True)
class Decision:
    """An action with its reason in words; `pause_kind` says why a pause was made."""

    action: Action
    reason: str
    pause_kind: str = ""


def find_abort_reason(facts: RolloutFacts) -> str | None:
    """Why the failures of devices end the rollout, or None."""
    finished = facts.succeeded + facts.failed
    if facts.max_failures is not None and facts.failed >= max(facts.max_failures, 1):
        return f"{write_count(facts.failed, 'device')} failed; the limit is {facts.max_failures}"
    if is_rate_exceeded(facts.failed, facts.succeeded, facts.max_failure_rate):
        e_value = failure_e_value(facts.failed, facts.succeeded, facts.max_failure_rate)
        return (
            f"{facts.failed} of {write_count(finished, 'finished device')} failed: evidence "
            f"{min(e_value, 1e9):,.0f} to 1 that the rate is above {facts.max_failure_rate:.1%}"
        )
    return None


def find_missing(facts: RolloutFacts, now: datetime) -> list[str]:
    """What a stage still lacks before it may end, in words; empty when nothing."""
    missing = []
    if facts.reached == 0:
        missing.append("the stage reaches no device")
    baked_at = facts.stage_started_at + facts.bake
    if now < baked_at:
        missing.append(f"bake ends in {math.ceil((baked_at - now).total_seconds())} s")
    if not facts.is_exposed:
        missing.append("the throttle has not offered the whole stage yet")
    finished = facts.succeeded + facts.failed
    needed = max(facts.min_devices, 1)
    if facts.succeeded < needed:
        missing.append(f"{facts.succeeded} of {write_count(needed, 'device')} have committed")
    if finished and facts.succeeded / finished < facts.success_threshold:
        missing.append(
            f"{facts.succeeded / finished:.1%} of answering devices succeeded, "
            f"{facts.success_threshold:.1%} needed"
        )
    for gate in facts.gates:
        if not gate.is_dry_run and gate.verdict != Verdict.PASS:
            said = f"gate {gate.metric} says {gate.verdict.value.replace('_', ' ')}"
            missing.append(f"{said}: {gate.advice}" if gate.advice else said)
    return missing


def decide_rollout(facts: RolloutFacts, now: datetime) -> Decision:
    """The next step of a rollout, by the rules in this module's docstring."""
    if facts.state not in ("running", "paused"):
        return Decision(Action.WAIT, f"nothing is decided while {facts.state}")
    abort = find_abort_reason(facts)
    if abort is not None:
        return Decision(Action.ABORT, abort)
    failing = [g for g in facts.gates if g.verdict == Verdict.FAIL and not g.is_dry_run]
    for gate in failing:
        if gate.action == "abort":
            return Decision(Action.ABORT, f"gate {gate.metric} failed")
    if facts.state == "paused" and facts.pause_kind != "no_evidence":
        return Decision(Action.WAIT, "paused until a person resumes")
    if failing:
        return Decision(Action.PAUSE, f"gate {failing[0].metric} failed", "gate")
    missing = find_missing(facts, now)
    if facts.state == "paused":
        if missing:
            return Decision(Action.WAIT, "; ".join(missing))
        return Decision(Action.RESUME, "the missing evidence has arrived")
    if not missing:
        if not facts.is_automatic:
            return Decision(Action.WAIT, "waits for a person to advance")
        if facts.is_last_stage:
            return Decision(Action.COMPLETE, "the last stage holds")
        return Decision(Action.ADVANCE, "bake elapsed and every gate holds")
    if now >= facts.stage_started_at + facts.bake + facts.patience and facts.is_exposed:
        return Decision(Action.PAUSE, "; ".join(missing), "no_evidence")
    return Decision(Action.WAIT, "; ".join(missing))
