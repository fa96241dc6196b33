"""Gates on the change of a mean, with five canaries whose devices differ a lot.

Every simulated rollout is looked at 120 times. Records of a device scatter by 0.2; devices differ
by 0.08 from each other always and by 0.01 in how they take the new release; the margin is 0.05.
Peers look at the same records as often as we do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fleet.rules.confidence_sequence import confidence_interval
from fleet.rules.device_changes import Changes, estimate_effect
from fleet.rules.own_past import weigh_past

Array = NDArray[np.float64]
LOOKS, RECORDS_A_LOOK, PAST_RECORDS = 120, 20, 2_400
RECORD_SD, DEVICE_SD, CHANGE_SD, MARGIN = 0.2, 0.08, 0.01, 0.05


@dataclass(frozen=True)
class Fleet:
    """One side: means so far at each look, (looks, devices, runs), and of the past before."""

    now: Array
    past: Array
    past_records: int


def simulate(
    rng: np.random.Generator,
    devices: int,
    runs: int,
    effect: float,
    weather: float = 0.0,
    past_records: int = PAST_RECORDS,
) -> Fleet:
    """Devices whose mean changes by `effect`, and by `weather` as every other device's does."""
    own = rng.normal(0, DEVICE_SD, (devices, runs))
    change = rng.normal(0, CHANGE_SD, (devices, runs)) + effect + weather
    sums = rng.normal(0, RECORD_SD * RECORDS_A_LOOK**0.5, (LOOKS, devices, runs)).cumsum(axis=0)
    records = np.arange(1, LOOKS + 1)[:, None, None] * RECORDS_A_LOOK
    past = own + rng.normal(0, RECORD_SD / past_records**0.5, (devices, runs))
    return Fleet(sums / records + own + change, past, past_records)


def judge(
    canary: Fleet, control: Fleet, margin: float = MARGIN, *, in_full: bool = False
) -> tuple[float, float]:
    """Percent of runs whose first decision is FAIL, and PASS, by the product's law.

    Args:
        in_full: takes off the whole of a device's past, however short it is.
    """
    runs = canary.now.shape[2]
    failed, passed = np.zeros(runs, bool), np.zeros(runs, bool)
    blur = RECORD_SD**2 / canary.past_records
    pasts = [Changes(side.past, np.full_like(side.past, blur)) for side in (canary, control)]
    trust = np.ones(runs) if in_full else weigh_past(pasts).trust
    for look in range(LOOKS):
        variance = RECORD_SD**2 / ((look + 1) * RECORDS_A_LOOK) + trust**2 * blur
        sides = [
            Changes(side.now[look] - trust * side.past, np.tile(variance, (len(side.past), 1)))
            for side in (canary, control)
        ]
        effect = estimate_effect(sides[0], sides[1])
        assert effect is not None
        ends = confidence_interval(effect.estimate, effect.error, effect.degrees, margin)
        is_open = ~(failed | passed)
        failed |= is_open & (ends.lower > margin)
        passed |= is_open & (ends.upper <= margin)
    return 100 * float(failed.mean()), 100 * float(passed.mean())


def judge_argo(canary: Fleet, control: Fleet) -> tuple[float, float]:
    """Argo Rollouts' analysis: each measurement against the condition, no failure tolerated."""
    gap = canary.now.mean(axis=1) - control.now.mean(axis=1)
    failed = (gap > MARGIN).any(axis=0)
    return 100 * float(failed.mean()), 100 * float((~failed).mean())


def judge_records(canary: Fleet, control: Fleet) -> tuple[float, float]:
    """A 99 % bound from records, as if they were independent, at every look."""
    records = np.arange(1, LOOKS + 1)[:, None] * RECORDS_A_LOOK * canary.now.shape[1]
    gap = canary.now.mean(axis=1) - control.now.mean(axis=1)
    spread = (RECORD_SD**2 + DEVICE_SD**2) ** 0.5
    failed = (gap - stats.norm.isf(0.01) * spread * np.sqrt(2 / records) > MARGIN).any(axis=0)
    return 100 * float(failed.mean()), 100 * float((~failed).mean())


def judge_evidently(
    rng: np.random.Generator, devices: int, runs: int, effect: float
) -> tuple[float, float]:
    """Evidently's default for a number column, control as reference, looked at eight times.

    Up to 1,000 reference rows a Kolmogorov-Smirnov test at 0.05, above them the Wasserstein
    distance over the reference's standard deviation, 0.1 (evidently, `get_default_stattest`).
    """
    failed = 0
    for _ in range(runs):
        sides = []
        for shift in (effect, 0.0):
            level = rng.normal(0, DEVICE_SD, (devices, 1)) + shift
            sides.append(level + rng.normal(0, RECORD_SD, (devices, LOOKS * RECORDS_A_LOOK)))
        for look in (1, 2, 4, 8, 15, 30, 60, 120):
            ours, theirs = (side[:, : look * RECORDS_A_LOOK].ravel() for side in sides)
            if len(theirs) <= 1000:
                is_drift = stats.ks_2samp(theirs, ours).pvalue < 0.05
            else:
                is_drift = stats.wasserstein_distance(theirs, ours) / theirs.std() >= 0.1
            if is_drift:
                failed += 1
                break
    return 100 * failed / runs, 100 * (1 - failed / runs)


def short_past_figures(rng: np.random.Generator, runs: int) -> dict[str, float]:
    """20 canaries with a past of 20 records each: right, and wrong at the margin."""

    def pair(effect: float) -> tuple[Fleet, Fleet]:
        ours, theirs = (simulate(rng, 20, runs, by, past_records=20) for by in (effect, 0.0))
        return ours, theirs

    harmless, harmful, at_margin = pair(0.0), pair(2 * MARGIN), pair(MARGIN)
    right = (judge(*harmless)[1] + judge(*harmful)[0]) / 2
    whole = (judge(*harmless, in_full=True)[1] + judge(*harmful, in_full=True)[0]) / 2
    return {
        "gate_right_percent_20_short_past": right,
        "gate_right_percent_20_short_past_in_full": whole,
        "gate_wrong_at_margin_percent_20_short_past": max(judge(*at_margin)),
    }


def figures(seconds: float) -> dict[str, float]:
    """False and right decisions, ours and peers', in percent of rollouts."""
    runs = int(min(max(40 * seconds, 200), 6_000))
    rng = np.random.default_rng(20260)
    found: dict[str, float] = {}
    harmless = simulate(rng, 5, runs, 0.0), simulate(rng, 5, runs, 0.0)
    harmful = simulate(rng, 5, runs, 2 * MARGIN), simulate(rng, 5, runs, 0.0)
    false_fail, right_pass = judge(*harmless)
    right_fail, false_pass = judge(*harmful)
    found["gate_false_fail_percent_5"] = false_fail
    found["gate_false_pass_percent_5"] = false_pass
    found["gate_right_percent_5"] = (right_pass + right_fail) / 2
    for devices in (3, 20, 100):
        some = max(runs * 5 // (devices * 2), 100)
        at_margin = simulate(rng, devices, some, MARGIN), simulate(rng, devices, some, 0.0)
        fail, passed = judge(*at_margin)
        found[f"gate_fail_at_margin_percent_{devices}"] = fail
        found[f"gate_pass_at_margin_percent_{devices}"] = passed
    found |= short_past_figures(rng, max(runs // 8, 100))
    weather = simulate(rng, 5, runs, 0.0, 0.2), simulate(rng, 5, runs, 0.0, 0.2)
    found["gate_right_percent_5_weather_of_4_margins"] = judge(*weather)[1]
    for name, rule in (("argo", judge_argo), ("records", judge_records)):
        found[f"peer_{name}_false_fail_percent_5"] = rule(*harmless)[0]
        found[f"peer_{name}_false_pass_percent_5"] = rule(*harmful)[1]
    some = max(runs // 40, 20)
    found["peer_evidently_false_fail_percent_5"] = judge_evidently(rng, 5, some, 0.0)[0]
    found["peer_evidently_false_pass_percent_5"] = judge_evidently(rng, 5, some, 2 * MARGIN)[1]
    return found
