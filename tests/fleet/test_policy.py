"""The rollout policy: when to go on, hold, or turn back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rules.device_changes import Effect
from fleet.rules.gate_advice import PastSoFar, advice_words, find_deciding
from fleet.rules.gates import (
    Evidence,
    GateLimits,
    Verdict,
    evaluate_gate,
    judge_installs,
)
from fleet.rules.own_past import OwnPast
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


def test_a_stage_that_pauses_for_an_open_gate_says_what_would_decide_it() -> None:
    open_gate = GateReading(
        "error_rate", Verdict.INCONCLUSIVE, "abort", advice="about 4 more devices would decide"
    )
    decision = decide_rollout(make_facts(gates=(open_gate,), stage_started_at=LONG_AGO), NOW)
    assert (decision.action, decision.pause_kind) == (Action.PAUSE, "no_evidence")
    assert decision.reason == (
        "gate error_rate says inconclusive: about 4 more devices would decide"
    )


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
    "the interval is below": ({"lower": 0.0, "upper": 0.19}, Verdict.PASS),
    "the interval ends at the threshold": ({"lower": 0.0, "upper": 0.2}, Verdict.PASS),
    "the interval holds the threshold": ({"lower": 0.1, "upper": 0.3}, Verdict.INCONCLUSIVE),
    "the interval is above": ({"lower": 0.21, "upper": 0.3}, Verdict.FAIL),
    "a small value that may be large": ({"lower": -0.1, "upper": 0.5}, Verdict.INCONCLUSIVE),
    "an interval that is open above never passes": ({"lower": 0.0}, Verdict.INCONCLUSIVE),
    "an exact value at the threshold": ({"value": 0.2}, Verdict.PASS),
    "an exact value above": ({"value": 0.21}, Verdict.FAIL),
    "no value": ({"value": None}, Verdict.NO_DATA),
    "not a number": ({"value": float("nan")}, Verdict.NO_DATA),
    "fewer devices than a person asked for": ({"value": 0.9, "devices": 2}, Verdict.INCONCLUSIVE),
    "fewer samples than a person asked for": ({"value": 0.1, "samples": 9}, Verdict.INCONCLUSIVE),
    "too old": ({"value": 0.1, "at": NOW - timedelta(days=2)}, Verdict.NO_DATA),
}


@pytest.mark.parametrize("name", GATE_CASES)
def test_gate(name: str) -> None:
    over, expected = GATE_CASES[name]
    evidence = Evidence(**{"value": 0.1, "devices": 3, "samples": 10, "at": NOW, **over})
    limits = GateLimits(threshold=0.2, min_devices=3, min_samples=10)
    assert evaluate_gate(limits, evidence, NOW) == expected


def test_a_gate_without_evidence_has_no_data() -> None:
    assert evaluate_gate(GateLimits(threshold=1), None, NOW) == Verdict.NO_DATA


INSTALLS = [(0, 0, "no_data"), (1, 1, "pass"), (2, 2, "fail"), (3, 50, "pass"), (20, 50, "fail")]


@pytest.mark.parametrize(("failed", "finished", "expected"), INSTALLS)
def test_the_install_gate_is_the_evidence(failed: int, finished: int, expected: str) -> None:
    assert judge_installs(failed, finished, 0.1) == expected


def make_effect(
    estimate: float, between: float, within: float, devices: int = 5, fixed: float = 0.0
) -> Effect:
    variance = 2 * (between + within + fixed) / devices
    return Effect(
        *(np.asarray(x) for x in (estimate, variance**0.5, 2 * devices - 2, between, within)),
        canaries=devices,
        controls=devices,
        fixed=np.asarray(fixed),
    )


def test_what_would_decide_is_more_devices_or_more_hours() -> None:
    advice = find_deciding(make_effect(0.0, between=1e-6, within=0.002), 0.05, hours=1)
    assert advice.devices is not None and 1 <= advice.devices < 30
    assert advice.hours is not None and 0 < advice.hours < 10
    assert advice_words(advice).startswith("about ")


def test_hours_do_not_help_where_devices_differ() -> None:
    advice = find_deciding(make_effect(0.0, between=0.002, within=1e-6), 0.05, hours=1)
    assert advice.hours is None and advice.devices is not None


def test_nothing_decides_an_effect_that_is_the_margin() -> None:
    advice = find_deciding(make_effect(0.05, between=0.002, within=0.002), 0.05, hours=1)
    assert advice.devices is None and advice.hours is None
    assert "so near the margin" in advice_words(advice)


SHORT = OwnPast(np.asarray(0.006), np.asarray(0.002))


def test_hours_do_not_help_where_the_past_is_short() -> None:
    fixed = float(SHORT.trust**2 * SHORT.within)
    leftover = float(SHORT.leaves()) - fixed
    effect = make_effect(0.0, between=leftover, within=1e-5, fixed=fixed)
    advice = find_deciding(effect, 0.05, hours=1, past=SHORT)
    assert advice.hours is None and advice.past is not None and advice.past > 1
    words = advice_words(advice, PastSoFar(hours=0.5, since=1.0, now=NOW))
    assert "the canaries' own past is short: 30 min of records each before the change" in words
    assert "leave them on it for another" in words and "(until 2026-01-02 " in words
    far = advice_words(advice, PastSoFar(hours=100.0, since=0.0))
    assert "more than the 7 days that are read" in far
    enough = advice_words(advice, PastSoFar(hours=0.5, since=100.0))
    assert "have as much: let some follow" in enough


@given(between=st.floats(0, 10), within=st.floats(1e-9, 10), times=st.floats(1, 1000))
def test_a_past_is_never_worth_more_than_it_tells(
    between: float, within: float, times: float
) -> None:
    past = OwnPast(np.asarray(between), np.asarray(within))
    assert 0 <= past.trust <= 1
    assert past.leaves(times) <= past.leaves() * (1 + 1e-9) <= min(between, within) * (1 + 1e-6)
