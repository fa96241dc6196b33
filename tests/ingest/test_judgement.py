"""From counts to levels: what is judged, and what is honestly not."""

import numpy as np

from ingest.rules.fleet_judgement import Policy, judge_slice, settle_levels
from ingest.rules.windows import WindowCounts
from tests.factories.ingest import make_profile

POLICY = Policy(min_devices=3)


def device(seed, n=400, shares=None, errors=0, latency=None):
    rng = np.random.default_rng(seed)
    classes = rng.multinomial(n, shares or [0.1] * 10)
    confidence = np.zeros(64, int)
    confidence[32:] = rng.multinomial(n, [1 / 32] * 32)
    return WindowCounts(
        n=n + errors,
        errors=errors,
        confidence_n=n,
        confidence=confidence.tolist(),
        classes=[*classes.tolist(), 0],
        latency_n=n,
        latency=latency or {10: n},
    )


def judge(devices, policy=POLICY, profile=None):
    profile = make_profile() if profile is None else profile
    judged = settle_levels(judge_slice("all", profile, "@x", devices, policy))
    return {item.metric: item for item in judged}


def test_devices_like_the_reference_are_healthy():
    found = judge([device(seed) for seed in range(5)])
    assert found["prediction_psi"].status == "healthy"
    assert found["confidence_psi"].status == "healthy"
    assert found["error_rate"].status == "healthy"
    assert found["feature_psi:input_mean"].status == "insufficient"


def test_a_collapse_of_the_classes_is_critical_and_named():
    shares = [0.55] + [0.05] * 9
    found = judge([device(seed, shares=shares) for seed in range(5)])["prediction_psi"]
    assert found.status == "critical"
    assert found.value > found.threshold_critical > found.threshold
    assert 0 < found.lower_bound < found.value
    assert int(np.argmax(found.details["contributions"])) == found.details["plan"][0]
    assert found.q_value < 0.01


def test_too_few_devices_are_never_called_healthy():
    found = judge([device(1), device(2)])
    assert found["prediction_psi"].status == "insufficient"
    assert "2 of 3 devices" in found["prediction_psi"].details["reason"]
    assert found["prediction_psi"].value is not None


def test_too_few_samples_are_never_called_healthy():
    assert judge([device(seed, n=10) for seed in range(5)])["prediction_psi"].status == (
        "insufficient"
    )


def test_clustered_devices_count_for_less():
    split = [
        device(seed, shares=[0.19 if (i < 5) == (seed % 2 == 0) else 0.01 for i in range(10)])
        for seed in range(20)
    ]
    found = judge(split)["prediction_psi"]
    assert found.design_effect > 10 and found.n_eff < found.n / 10


def test_without_a_baseline_there_is_no_reference_but_errors_are_judged():
    judged = settle_levels(judge_slice("all", None, "", [device(s) for s in range(5)], POLICY))
    found = {item.metric: item.status for item in judged}
    assert found["prediction_psi"] == "no_reference"
    assert found["error_rate"] == "healthy"


def test_no_device_at_all_is_insufficient():
    assert {item.status for item in judge([]).values()} <= {"insufficient", "no_reference"}


def test_errors_above_the_limit_are_critical():
    assert judge([device(s, errors=100) for s in range(5)])["error_rate"].status == "critical"


def test_the_fixed_rule_stays_selectable():
    policy = Policy(min_devices=3, rule="fixed", warning_psi=0.2, critical_psi=0.4)
    found = judge([device(s, shares=[0.55] + [0.05] * 9) for s in range(5)], policy)
    assert found["prediction_psi"].threshold == 0.2
    assert found["prediction_psi"].status == "critical"


def test_a_slower_fleet_is_found_where_the_baseline_has_latencies():
    profile = make_profile(latency={"gamma": 1.05, "counts": {"10": 1000}})
    same = judge([device(s) for s in range(5)], profile=profile)["latency_p95_ratio"]
    slow = judge([device(s, latency={40: 400}) for s in range(5)], profile=profile)
    assert same.status == "healthy" and same.value == 1
    assert slow["latency_p95_ratio"].status == "critical"
