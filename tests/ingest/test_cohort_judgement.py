"""What canaries' counts say beside their reference."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from fleet.rules.gate_metrics import METRICS, Source
from fleet.rules.gates import Verdict, judge_interval
from ingest.rules.bins import confidence_counts, latency_counts
from ingest.rules.cohort_evidence import (
    BASELINE,
    CONTROL,
    PAST,
    PAST_AND_CONTROL,
    DeviceHistory,
    Evidence,
)
from ingest.rules.cohort_judgement import judge_cohorts
from ingest.rules.windows import WindowCounts
from tests.factories.ingest import make_profile

MARGINS = {row.name: row.margin for row in METRICS.values() if row.source is Source.WINDOWS}
EVEN = [0.1] * 10


def make_counts(
    rng: np.random.Generator,
    n: int = 600,
    shares: list[float] | None = None,
    confidence: float = 0.8,
    errors: float = 0.02,
    latency_ms: float = 20.0,
    nonfinite: float = 0.0,
) -> WindowCounts:
    failed = int(rng.binomial(n, errors))
    good = n - failed
    mixed = np.asarray(shares or EVEN)
    return WindowCounts(
        n=n,
        errors=failed,
        nonfinite=int(rng.binomial(n, nonfinite)),
        confidence_n=good,
        confidence=confidence_counts(rng.beta(20 * confidence, 20 * (1 - confidence), good)),
        classes=[*rng.multinomial(good, mixed / mixed.sum()).tolist(), 0],
        latency_n=good,
        latency=latency_counts(latency_ms * np.exp(rng.normal(0, 0.2, good))),
    )


def make_side(
    seed: int, devices: int, *, past: bool = True, before: Any = None, **now: Any
) -> list[DeviceHistory]:
    """Devices that differ from each other, each in the same way before and after."""
    rng = np.random.default_rng(seed)
    side = []
    for number in range(devices):
        level = float(rng.normal(0, 0.05))
        own = {"confidence": 0.8 + level, "latency_ms": 20 * np.exp(3 * level)}
        after = {**own, **now}
        if "drop" in after:
            after["confidence"] -= after.pop("drop")
        if "slower" in after:
            after["latency_ms"] *= after.pop("slower")
        then = make_counts(rng, 3000, **{**own, **(before or {})}) if past else None
        side.append(DeviceHistory(make_counts(rng, **after), then, f"class-{number % 2}"))
    return side


def judge(
    canary: list[DeviceHistory], control: list[DeviceHistory], profile: Any = None
) -> dict[str, Evidence]:
    return {row.metric: row for row in judge_cohorts(canary, control, profile, MARGINS, hours=1.0)}


def verdict_of(row: Evidence) -> Verdict:
    if row.value is None:
        return Verdict.NO_DATA
    upper = row.details.get("upper", np.inf)
    return judge_interval(row.details["lower"], upper, MARGINS[row.metric])


def test_a_harmless_canary_passes_every_gate_on_differing_devices() -> None:
    found = judge(make_side(1, 6), make_side(2, 12))
    assert {metric: verdict_of(row) for metric, row in found.items()} == dict.fromkeys(
        MARGINS, Verdict.PASS
    )
    assert {row.details["reference"] for row in found.values()} == {PAST_AND_CONTROL}


def test_what_happens_to_all_devices_alike_fails_nothing() -> None:
    weather = {"errors": 0.3, "drop": 0.2, "slower": 3.0, "shares": [0.55, *[0.05] * 9]}
    found = judge(make_side(3, 6, **weather), make_side(4, 12, **weather))
    assert Verdict.FAIL not in {verdict_of(row) for row in found.values()}
    assert verdict_of(found["prediction_psi"]) is Verdict.PASS


HARMFUL = {
    "prediction_psi": {"shares": [0.7, *[0.3 / 9] * 9]},
    "class_share_change": {"shares": [0.3, *[0.7 / 9] * 9]},
    "confidence_drop": {"drop": 0.15},
    "error_rate": {"errors": 0.15},
    "nonfinite_rate": {"nonfinite": 0.08},
    "latency_p50_ratio": {"slower": 2.0},
    "latency_p95_ratio": {"slower": 2.0},
}


@pytest.mark.parametrize("metric", list(MARGINS))
def test_each_metric_fails_on_what_it_measures(metric: str) -> None:
    found = judge(make_side(5, 6, **HARMFUL[metric]), make_side(6, 12))
    assert verdict_of(found[metric]) is Verdict.FAIL


def test_both_cohorts_at_five_percent_errors_are_no_fault_of_the_release() -> None:
    found = judge(make_side(7, 6, errors=0.05), make_side(8, 12, errors=0.05))["error_rate"]
    assert verdict_of(found) is Verdict.PASS
    assert found.control_value == pytest.approx(0.05, abs=0.01)


def test_a_slow_class_of_hardware_fails_though_the_other_is_fast() -> None:
    canary = [
        DeviceHistory(
            make_counts(np.random.default_rng(index), latency_ms=50 if index % 2 else 20),
            make_counts(np.random.default_rng(index + 50), 3000),
            f"class-{index % 2}",
        )
        for index in range(8)
    ]
    found = judge(canary, make_side(10, 12))["latency_p95_ratio"]
    assert verdict_of(found) is Verdict.FAIL and found.details["hardware"] == "class-1"


REFERENCES = {
    CONTROL: (make_side(11, 6, past=False), make_side(12, 8, past=False)),
    PAST: (make_side(13, 6), []),
    BASELINE: (make_side(14, 6, past=False), []),
}


@pytest.mark.parametrize("reference", list(REFERENCES))
def test_a_weaker_reference_is_named(reference: str) -> None:
    canary, control = REFERENCES[reference]
    found = judge(canary, control, make_profile())
    assert found["error_rate"].details["reference"] == reference
    assert found["prediction_psi"].details["reference"] == reference
    assert found["error_rate"].details["words"].startswith(("against", "each"))


@pytest.mark.parametrize(("canaries", "controls"), [(0, 5), (1, 5), (1, 0)])
def test_fewer_than_two_devices_give_no_value(canaries: int, controls: int) -> None:
    found = judge(make_side(15, canaries), make_side(16, controls), make_profile())
    assert all(row.value is None for row in found.values())
    assert "are the least" in found["error_rate"].details["words"]


def test_one_record_a_device_decides_nothing() -> None:
    rng = np.random.default_rng(17)
    canary = [DeviceHistory(make_counts(rng, 1, errors=0.0)) for _ in range(5)]
    control = [DeviceHistory(make_counts(rng, 1, errors=0.0)) for _ in range(5)]
    found = judge(canary, control)
    assert not {verdict_of(row) for row in found.values()} & {Verdict.PASS, Verdict.FAIL}


def test_an_open_gate_says_what_would_decide_it() -> None:
    found = judge(make_side(18, 2, drop=0.02), make_side(19, 2))["confidence_drop"]
    assert verdict_of(found) is Verdict.INCONCLUSIVE
    assert "would decide" in found.details["advice"]


def test_a_collapse_onto_one_of_201_classes_fails() -> None:
    rng = np.random.default_rng(20)
    even = [1 / 201] * 201

    def device(shares: list[float]) -> DeviceHistory:
        return DeviceHistory(make_counts(rng, 300, shares), make_counts(rng, 3000, even))

    found = judge([device([1.0, *[0.0] * 200]) for _ in range(5)], [device(even) for _ in range(5)])
    psi = found["prediction_psi"]
    assert verdict_of(psi) is Verdict.FAIL
    assert psi.details["failing_classes"][0] == 0 and psi.details["class_change"] > 0.9


def test_a_short_past_is_trusted_in_part_and_the_advice_names_it() -> None:
    rng = np.random.default_rng(36)

    def side(devices: int) -> list[DeviceHistory]:
        told = []
        for level in rng.normal(0.8, 0.05, devices):
            told.append(
                DeviceHistory(
                    make_counts(rng, 3000, confidence=float(level)),
                    make_counts(rng, 4, confidence=float(level), errors=0.0),
                )
            )
        return told

    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    found = judge_cohorts(side(6), side(6), None, MARGINS, hours=2.0, now=now)
    row = next(row for row in found if row.metric == "confidence_drop")
    assert verdict_of(row) is Verdict.INCONCLUSIVE
    assert 0 < row.details["trust_in_past"] < 1
    advice = row.details["advice"]
    assert "the canaries' own past is short: 10 s of records each before the change" in advice
    assert "let some follow" in advice
    assert "more of records" not in advice
    long = judge(make_side(32, 6), make_side(33, 12))["confidence_drop"]
    assert long.details["trust_in_past"] > 0.95
