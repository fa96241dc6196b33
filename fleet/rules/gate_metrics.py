"""The metrics a gate may limit: one row each; pure.

A value is the change that canaries show beside their reference, in the row's unit; larger is worse.
A metric of one's own is named `own:…`; its values are pushed, or read from Prometheus.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

OWN_PREFIX = "own:"
PREDICTIONS = "prediction_psi"
ERRORS = "error_rate"
LATENCY_P95 = "latency_p95_ratio"
INSTALLS = "install_failure_rate"
_OWN_NAME = re.compile(r"own:[a-z][a-z0-9_]{0,27}")


class Source(StrEnum):
    """Who measures a metric."""

    WINDOWS = "windows"
    TELEMETRY = "telemetry"
    INSTALLATIONS = "installations"
    OWN = "own"


class Unit(StrEnum):
    """How a value is written."""

    PSI = "PSI"
    SHARE = "share"
    RATIO = "ratio"
    CONFIDENCE = "confidence"
    CELSIUS = "°C"
    NONE = ""


@dataclass(frozen=True)
class GateMetric:
    """One row.

    Attributes:
        direction: which way is worse, in words.
        margin: the threshold proposed.
        measures: what the value says, as a sentence for people.
    """

    name: str
    title: str
    unit: Unit
    direction: str
    margin: float
    source: Source
    measures: str


METRICS: dict[str, GateMetric] = {
    row.name: row
    for row in (
        GateMetric(
            "prediction_psi", "Prediction change", Unit.PSI, "any change", 0.25, Source.WINDOWS,
            "PSI of predicted classes, and beside it the largest change of one class's share.",
        ),
        GateMetric(
            "class_share_change", "Largest change of one class", Unit.SHARE, "any change", 0.05,
            Source.WINDOWS, "Largest change of the share of one class, of all in the label map.",
        ),
        GateMetric(
            "confidence_drop", "Confidence drop", Unit.CONFIDENCE, "down", 0.05, Source.WINDOWS,
            "Fall of the mean confidence.",
        ),
        GateMetric(
            "error_rate", "Error rate", Unit.SHARE, "up", 0.02, Source.WINDOWS,
            "Rise of the share of inferences that fail.",
        ),
        GateMetric(
            "nonfinite_rate", "Non-finite outputs", Unit.SHARE, "up", 0.01, Source.WINDOWS,
            "Rise of the share of inferences whose output is no number.",
        ),
        GateMetric(
            "latency_p50_ratio", "Latency p50 ratio", Unit.RATIO, "up", 1.25, Source.WINDOWS,
            "Median latency beside before, of the hardware class that changed most.",
        ),
        GateMetric(
            "latency_p95_ratio", "Latency p95 ratio", Unit.RATIO, "up", 1.25, Source.WINDOWS,
            "95th percentile of latency beside before, of the hardware class that changed most.",
        ),
        GateMetric(
            "memory_ratio", "Agent memory ratio", Unit.RATIO, "up", 1.25, Source.TELEMETRY,
            "Resident memory of the agent's process beside before.",
        ),
        GateMetric(
            "temperature_rise", "Temperature rise", Unit.CELSIUS, "up", 5.0, Source.TELEMETRY,
            "Rise of the hottest sensor.",
        ),
        GateMetric(
            "install_failure_rate", "Install failures", Unit.SHARE, "up", 0.10,
            Source.INSTALLATIONS,
            "Evidence, by e-value, that more than this share of devices fails to install.",
        ),
    )
}  # fmt: skip

#: What limits a rollout unless a person says otherwise; a person may change or leave out each.
PROPOSED_GATES: list[dict[str, Any]] = [
    {"metric": name, "threshold": METRICS[name].margin, "action": action}
    for name, action in (
        (INSTALLS, "abort"), (ERRORS, "abort"), (PREDICTIONS, "pause"), (LATENCY_P95, "pause"),
    )
]  # fmt: skip


#: What only a release that answers classes has; `CONFIDENCES` also needs their probability.
CLASSES = frozenset({PREDICTIONS, "class_share_change"})
CONFIDENCES = frozenset({"confidence_drop"})


def unmeasured_metrics(contract: Mapping[str, Any]) -> frozenset[str]:
    """Metrics of which a release with this output contract can never have evidence.

    Args:
        contract: of `registry.reading`; empty for a release from before there were any.
    """
    if contract.get("task", "classification") != "classification":
        return CLASSES | CONFIDENCES
    return CONFIDENCES if contract.get("form") == "label" else frozenset()


def propose_gates(contract: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The proposed gates that a release with this contract can pass."""
    left_out = unmeasured_metrics(contract)
    return [gate for gate in PROPOSED_GATES if gate["metric"] not in left_out]


def is_gate_metric(name: str) -> bool:
    """True for a row of the table and for a well-formed name of one's own."""
    return name in METRICS or _OWN_NAME.fullmatch(name) is not None


def title_of(name: str) -> str:
    """The metric's name for people."""
    if name in METRICS:
        return METRICS[name].title
    return name.removeprefix(OWN_PREFIX).replace("_", " ").capitalize()


def unit_of(name: str) -> Unit:
    """The unit its values are written in."""
    return METRICS[name].unit if name in METRICS else Unit.NONE


def value_words(name: str, value: float | None) -> str:
    """A value with its unit; a dash when there is none."""
    if value is None:
        return "–"
    match unit_of(name):
        case Unit.SHARE:
            return f"{100 * value:.3g} %"
        case Unit.RATIO:
            return f"{value:.3g} ×"
        case Unit.CELSIUS:
            return f"{value:.3g} °C"
    return f"{value:.3g}"
