"""Why a rollout ended as it did, read from what the server recorded; pure.

The right end for the wrong reason is no proof: a version that is stopped because the machine was
busy for a second would be stopped on a good day for nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

#: What is wrong with the bad version. Every other gate speaks of the device or of the machine.
PREDICTION_METRICS = frozenset({"prediction_psi", "class_share_change", "confidence_drop"})
PREDICTIONS = "its predictions"
#: States of an installation in which a device refused the release or took it back by itself.
UNDONE_STATES = frozenset({"failed", "rolled_back", "timed_out", "regressed", "incompatible"})

#: What a person does to begin a rollout.
_BEGINNINGS = frozenset({"create", "schedule", "approve", "start"})

Row = Mapping[str, Any]


def find_stop_causes(rollout: Row) -> list[str]:
    """What stopped the rollout, by the decision that stopped it; empty when nothing did.

    `PREDICTIONS` is said only where every gate that the decision names is one of predictions and
    stood at "fail" in the evidence recorded with it.

    Args:
        rollout: as the API shows it, with its events.
    """
    causes = []
    for event in rollout["events"]:
        if event["action"] == "abort":
            causes += _causes_of(event)
    return sorted(set(causes))


def _causes_of(event: Row) -> list[str]:
    if event["actor"] != "system":
        return [f"{event['actor']}: {event['reason']}"]
    gates = (event["evidence"] or {}).get("gates", [])
    named = [gate for gate in gates if _is_named(gate["metric"], event["reason"])]
    if not named:
        return [event["reason"] or "no reason was recorded"]
    return [_cause_of_gate(gate) for gate in named]


def _is_named(metric: str, reason: str) -> bool:
    said = reason.lower().replace("_", " ")
    return metric.lower().replace("_", " ") in said


def _cause_of_gate(gate: Row) -> str:
    if gate["verdict"] != "fail":
        return f"{gate['metric']}, which stood at {gate['verdict']}"
    return PREDICTIONS if gate["metric"] in PREDICTION_METRICS else str(gate["metric"])


def find_weak_steps(rollout: Row) -> list[str]:
    """The steps forward that did not rest on evidence, and every step that was no step forward.

    A step is sound when the system took it, no device had failed, and each gate passed on as many
    devices and samples as it asks for.
    """
    demands = {gate["metric"]: gate for gate in rollout["gates"]}
    weak = []
    for event in sorted(rollout["events"], key=lambda event: event["revision"]):
        if event["action"] in _BEGINNINGS:
            continue
        problems = list(_problems_of(event, demands))
        if problems:
            weak.append(f"stage {event['stage_index'] + 1} {event['action']}: {problems[0]}")
    return weak


def _problems_of(event: Row, demands: Mapping[str, Row]) -> Iterable[str]:
    if event["action"] not in ("advance", "complete"):
        yield event["reason"] or "no reason was recorded"
    if event["actor"] != "system":
        yield f"by {event['actor']}"
    evidence = event["evidence"] or {}
    if evidence.get("failed"):
        yield f"{evidence['failed']} devices had failed"
    shown = {gate["metric"]: gate for gate in evidence.get("gates", [])}
    for metric, demand in demands.items():
        gate = shown.get(metric)
        if gate is None:
            yield f"{metric} was not asked"
        elif gate["verdict"] != "pass":
            yield f"{metric} stood at {gate['verdict']}"
        elif gate["devices"] < demand["min_devices"] or gate["samples"] < demand["min_samples"]:
            yield f"{metric} rested on {gate['devices']} devices, {gate['samples']} samples"


def list_undone(installations: Iterable[Row], version: str) -> list[str]:
    """The devices that refused `version` or took it back by themselves, each with its own words."""
    return sorted(
        f"{row['device']}: {row['state']} {row['code']} {row['detail']}".strip()
        for row in installations
        if row["version"] == version and row["state"] in UNDONE_STATES
    )
