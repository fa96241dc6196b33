"""The rollout policy: when to go on, hold, or turn back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rules.gates import Evidence, GateLimits, Verdict, evaluate_gate
from fleet.rules.rollout_policy import (
    Action,
    GateReading,
    RolloutFacts,
    decide_rollout,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def make_facts(**over: Any) -> RolloutFacts:
    fields: dict[str, Any] = {
        "state": "running",
        "pause_kind": "",
        "is_last_stage": False,
        "is_automatic": True,
        "stage_started_at": NOW - timedelta(hours=2),
        "bake": timedelta(hours=1),
        "patience": timedelta(hours=3),
        "min_devices": 5,
        "success_threshold": 0.9,
        "succeeded": 20,
        "failed": 0,
        "max_failures": None,
        "max_failure_rate": 0.1,
    }
    return RolloutFacts(**{**fields, **over})


def gate(verdict: Verdict, action: str = "pause", is_dry_run: bool = False) -> GateReading:
    return GateReading("prediction_psi", verdict, action, is_dry_run)


EARLY = NOW - timedelta(minutes=1)
LONG_AGO = NOW - timedelta(hours=9)

CASES: dict[str, tuple[dict[str, Any], Action]] = {
    "a stage that holds advances": ({}, Action.ADVANCE),
    "the last stage that holds completes": ({"is_last_stage": True}, Action.COMPLETE),
    "automation never passes a human gate": ({"is_automatic": False}, Action.WAIT),
    "nothing advances before the bake": ({"stage_started_at": EARLY}, Action.WAIT),
    "too few devices wait": ({"succeeded": 4}, Action.WAIT),
    "silence past patience pauses": (
        {"succeeded": 0, "stage_started_at": LONG_AGO},
        Action.PAUSE,
    ),
    "a low success share waits": (
        {"succeeded": 17, "failed": 3, "max_failure_rate": 0.5},
        Action.WAIT,
    ),
    "a failing abort gate aborts": ({"gates": (gate(Verdict.FAIL, "abort"),)}, Action.ABORT),
    "a failing pause gate pauses": ({"gates": (gate(Verdict.FAIL),)}, Action.PAUSE),
    "a dry run changes nothing": (
        {"gates": (gate(Verdict.FAIL, "abort", is_dry_run=True),)},
        Action.ADVANCE,
    ),
    "no data holds a stage": ({"gates": (gate(Verdict.NO_DATA),)}, Action.WAIT),
    "no data past patience pauses": (
        {"gates": (gate(Verdict.NO_DATA),), "stage_started_at": LONG_AGO},
        Action.PAUSE,
    ),
    "an inconclusive gate holds a stage": ({"gates": (gate(Verdict.INCONCLUSIVE),)}, Action.WAIT),
    "the absolute number of failures aborts": (
        {"failed": 3, "succeeded": 1000, "max_failures": 3},
        Action.ABORT,
    ),
    "evidence of a failure rate aborts": ({"failed": 7, "succeeded": 8}, Action.ABORT),
    "a share above the limit that may be chance does not abort": (
        {"failed": 3, "succeeded": 8},
        Action.WAIT,
    ),
    "the first devices that all fail abort": ({"failed": 3, "succeeded": 0}, Action.ABORT),
    "one failed device says nothing of a rate": (
        {"failed": 1, "succeeded": 0, "max_failure_rate": 0.01},
        Action.WAIT,
    ),
    "an unthrottled stage is required": ({"is_exposed": False}, Action.WAIT),
    "a person's pause stays": ({"state": "paused", "pause_kind": "person"}, Action.WAIT),
    "a gate's pause stays": ({"state": "paused", "pause_kind": "gate"}, Action.WAIT),
    "evidence lifts the pause for missing evidence": (
        {"state": "paused", "pause_kind": "no_evidence"},
        Action.RESUME,
    ),
    "a pause still aborts": (
        {"state": "paused", "pause_kind": "person", "failed": 30},
        Action.ABORT,
    ),
    "nothing is decided about what is over": ({"state": "aborted", "failed": 99}, Action.WAIT),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    over, expected = CASES[name]
    assert decide_rollout(make_facts(**over), NOW).action == expected


@given(
    st.integers(0, 50),
    st.integers(0, 50),
    st.lists(st.sampled_from(Verdict), max_size=4),
    st.integers(0, 20 * 3600),
)
def test_it_never_advances_on_silence_or_beside_a_gate_that_does_not_pass(
    succeeded: int, failed: int, verdicts: list[Verdict], age: int
) -> None:
    facts = make_facts(
        succeeded=succeeded,
        failed=failed,
        gates=tuple(gate(verdict) for verdict in verdicts),
        stage_started_at=NOW - timedelta(seconds=age),
    )
    if decide_rollout(facts, NOW).action in (Action.ADVANCE, Action.COMPLETE):
        assert succeeded >= 5 and age >= 3600
        assert succeeded / (succeeded + failed) >= 0.9
        assert set(verdicts) <= {Verdict.PASS}


GATE_CASES: dict[str, tuple[dict[str, Any], Verdict]] = {
    "below": ({"value": 0.1}, Verdict.PASS),
    "at the threshold": ({"value": 0.2}, Verdict.PASS),
    "above": ({"value": 0.21}, Verdict.FAIL),
    "above, lower bound below": ({"value": 0.3, "lower": 0.1}, Verdict.INCONCLUSIVE),
    "above, lower bound above": ({"value": 0.3, "lower": 0.25}, Verdict.FAIL),
    "no value": ({"value": None}, Verdict.NO_DATA),
    "not a number": ({"value": float("nan")}, Verdict.NO_DATA),
    "too few devices": ({"value": 0.9, "devices": 2}, Verdict.INCONCLUSIVE),
    "too few samples": ({"value": 0.1, "samples": 9}, Verdict.INCONCLUSIVE),
    "too old": ({"value": 0.1, "at": NOW - timedelta(days=2)}, Verdict.NO_DATA),
}


@pytest.mark.parametrize("name", GATE_CASES)
def test_gate(name: str) -> None:
    over, expected = GATE_CASES[name]
    evidence = Evidence(**{"value": 0, "devices": 3, "samples": 10, "at": NOW, **over})
    limits = GateLimits(threshold=0.2, min_devices=3, min_samples=10)
    assert evaluate_gate(limits, evidence, NOW) == expected


def test_a_gate_without_evidence_has_no_data() -> None:
    assert evaluate_gate(GateLimits(threshold=1), None, NOW) == Verdict.NO_DATA
