"""The fleet's figures on fixed seeds, with bounds that chance alone breaks once in 10,000 runs."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.decisions.fleet import (
    BREACHES,
    collapsed_fleet,
    draw,
    judge,
    judge_devices,
)
from benchmarks.decisions.fleet_streams import NULL_SETTINGS, Setting, class_mix, shifted, true_psi
from benchmarks.decisions.season import OURS, count_incidents, delay_hours, season

RARELY = 1e-4


def at_most(hits: int, runs: int, share: float) -> bool:
    """Whether `hits` of `runs` is what a true share of at most `share` shows."""
    return bool(stats.binom.sf(hits - 1, runs, share) > RARELY)


def at_least(hits: int, runs: int, share: float) -> bool:
    return bool(stats.binom.cdf(hits, runs, share) > RARELY)


@pytest.mark.parametrize("setting", NULL_SETTINGS, ids=lambda setting: setting.name)
def test_a_fleet_at_rest_raises_no_more_than_two_percent_of_alarms(setting):
    rng = np.random.default_rng(1)
    alarms = sum(judge(*draw(rng, setting)).status in BREACHES for _ in range(12))
    assert at_most(alarms, 12, 0.02)


def test_a_psi_of_one_quarter_is_found_at_500_effective_records_in_nine_of_ten():
    rng = np.random.default_rng(2)
    setting = Setting("500 records", records=500)
    hits = sum(judge(*draw(rng, setting, psi=0.25)).status in BREACHES for _ in range(60))
    assert at_least(hits, 60, 0.90)


def test_a_twentieth_of_the_devices_collapsing_is_found_in_nine_of_ten():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(8):
        told, _reference = collapsed_fleet(rng, devices=400, share=0.05)
        hits += judge_devices(told).status in BREACHES
    assert at_least(hits, 8, 0.90)


def test_day_and_night_raise_nothing_and_a_real_change_is_found_within_hours():
    rng = np.random.default_rng(4)
    onset = 5 * 24 + 5
    reference, hours = season(rng, onset=onset)
    assert count_incidents((reference, hours[:onset]), *OURS) == 0
    assert delay_hours((reference, hours[: onset + 24]), onset, *OURS) <= 6


def test_the_simulated_shifts_are_as_large_as_they_say():
    rng = np.random.default_rng(5)
    p = class_mix(10)
    assert true_psi(p, shifted(p, 0.25, rng)) == pytest.approx(0.25)
    _, hours = season(rng, onset=None)
    day = np.sum([rows.sum(axis=0) for hour, rows in enumerate(hours) if 6 <= hour % 24 < 18], 0)
    night = np.sum([r.sum(axis=0) for hour, r in enumerate(hours) if not 6 <= hour % 24 < 18], 0)
    psi = true_psi(day[:10] / day.sum(), night[:10] / night.sum())
    assert psi == pytest.approx(0.3, rel=0.15)
