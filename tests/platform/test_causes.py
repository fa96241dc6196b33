"""The demonstration names what stopped a version, and accepts nothing but its predictions."""

from typing import Any

import pytest

from demo.causes import (
    PREDICTION_METRICS,
    PREDICTIONS,
    find_stop_causes,
    find_weak_steps,
    list_undone,
)
from fleet.rules.gate_metrics import METRICS as METRICS_OF_GATES

METRICS = ("prediction_psi", "confidence_drop", "error_rate", "install_failure_rate")


def make_gates(**verdicts: str) -> list[dict[str, Any]]:
    return [
        {"metric": metric, "verdict": verdicts.get(metric, "pass"), "devices": 3, "samples": 400}
        for metric in METRICS
    ]


def make_event(action: str, reason: str = "", **over: Any) -> dict[str, Any]:
    evidence = {"failed": 0, "gates": make_gates()}
    row = {"action": action, "actor": "system", "reason": reason, "evidence": evidence}
    return {**row, "revision": 1, "stage_index": 0, **over}


def make_rollout(*events: dict[str, Any]) -> dict[str, Any]:
    gates = [{"metric": metric, "min_devices": 3, "min_samples": 200} for metric in METRICS]
    return {"events": list(events), "gates": gates}


STOPS = {
    "a gate of predictions": (
        make_event(
            "abort",
            "gate prediction_psi failed",
            evidence={"failed": 0, "gates": make_gates(prediction_psi="fail")},
        ),
        [PREDICTIONS],
    ),
    "the same in the words of a page": (
        make_event(
            "abort",
            "Prediction PSI 3.1 is above 0.25 on 3 devices",
            evidence={"gates": make_gates(prediction_psi="fail", error_rate="fail")},
        ),
        [PREDICTIONS],
    ),
    "a device that found itself slow": (
        make_event(
            "abort",
            "1 of 3 finished devices failed (33.3%); the limit is 20.0%",
            evidence={"failed": 1, "gates": make_gates(prediction_psi="fail")},
        ),
        ["1 of 3 finished devices failed (33.3%); the limit is 20.0%"],
    ),
    "a gate of failures beside one of predictions": (
        make_event(
            "abort",
            "gate install_failure_rate failed",
            evidence={"gates": make_gates(prediction_psi="fail", install_failure_rate="fail")},
        ),
        ["install_failure_rate"],
    ),
    "a reason that its own evidence denies": (
        make_event("abort", "gate prediction_psi failed"),
        ["prediction_psi, which stood at pass"],
    ),
    "a person": (
        make_event("abort", "prediction_psi looks odd", actor="ada"),
        ["ada: prediction_psi looks odd"],
    ),
    "nothing said": (make_event("abort"), ["no reason was recorded"]),
    "nothing at all": (make_event("complete", "the last stage holds"), []),
}


@pytest.mark.parametrize("case", STOPS)
def test_the_cause_is_what_the_decision_names(case: str) -> None:
    event, causes = STOPS[case]
    assert find_stop_causes(make_rollout(event)) == causes


def test_the_metrics_of_predictions_are_metrics_of_gates() -> None:
    assert set(METRICS_OF_GATES) >= PREDICTION_METRICS


def test_steps_on_full_evidence_are_sound() -> None:
    begin = [
        make_event("create", "digits: to 1.1.0", actor="admin"),
        make_event("start", actor="admin"),
    ]
    steps = [*begin, make_event("advance"), make_event("complete")]
    assert find_weak_steps(make_rollout(*steps)) == []


WEAK = {
    "a gate without enough samples": (
        {"evidence": {"gates": [{**gate, "samples": 10} for gate in make_gates()]}},
        "prediction_psi rested on 3 devices, 10 samples",
    ),
    "a gate that was undecided": (
        {"evidence": {"gates": make_gates(error_rate="inconclusive")}},
        "error_rate stood at inconclusive",
    ),
    "a gate that was not asked": ({"evidence": {"gates": []}}, "prediction_psi was not asked"),
    "a device that had failed": (
        {"evidence": {"failed": 1, "gates": make_gates()}},
        "1 devices had failed",
    ),
    "a person's push": ({"actor": "ada"}, "by ada"),
    "a pause for missing evidence": (
        {"action": "pause", "reason": "gate error_rate says no data"},
        "gate error_rate says no data",
    ),
}


@pytest.mark.parametrize("case", WEAK)
def test_a_step_without_its_evidence_is_named(case: str) -> None:
    over, problem = WEAK[case]
    event = {**make_event("advance"), **over}
    assert find_weak_steps(make_rollout(event)) == [f"stage 1 {event['action']}: {problem}"]


def test_a_device_that_took_a_version_back_is_named_with_its_words() -> None:
    row = {"device": "lab-01", "version": "1.2.0", "code": "health_check_failed"}
    slow = {**row, "state": "rolled_back", "detail": "p95 2.50 ms, was 0.33 ms"}
    fine = {**row, "device": "lab-02", "state": "committed", "detail": ""}
    other = {**slow, "version": "1.1.0"}
    assert list_undone([slow, fine, other], "1.2.0") == [
        "lab-01: rolled_back health_check_failed p95 2.50 ms, was 0.33 ms"
    ]
