"""The last hours against the same hours of the days before."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.models import DriftEvaluation, DriftPolicy, IncidentFinding
from ingest.rules.fleet_judgement import Policy, settle_levels
from ingest.rules.same_hours import DAY, DAYS, Hours, days_back, judge_same_hours
from ingest.rules.windows import WindowCounts
from ingest.services.evaluation import evaluate_model
from tests.factories.ingest import make_device, make_release, make_window

POLICY = Policy(min_devices=3)
HOUR = timedelta(hours=1)
NOON = [0.4, 0.3, 0.2, 0.1]
NIGHT = [0.1, 0.2, 0.3, 0.4]
OTHER = [0.1, 0.1, 0.1, 0.7]


def told(rng, shares, devices=8, n=200):
    rows = [rng.multinomial(n, shares).tolist() for _ in range(devices)]
    return [Hours(WindowCounts(n=n, classes=[*row, 0]), WindowCounts()) for row in rows]


def status(now, days, **over):
    found = judge_same_hours(
        now, days, Policy(min_devices=3, **over), ["a", "b", "c", "d", "other"]
    )
    return {item.metric: item for item in settle_levels(found)}


def test_what_each_day_had_at_these_hours_is_no_finding():
    rng = np.random.default_rng(1)
    days = [told(rng, NOON) for _ in range(DAYS)]
    item = status(told(rng, NOON), days)["same_hours_psi:prediction"]
    assert item.status == "healthy"
    assert (item.details["days"], item.details["windows"]) == (DAYS, 1)


def test_what_no_day_had_at_these_hours_is_found():
    rng = np.random.default_rng(2)
    days = [told(rng, NOON) for _ in range(DAYS)]
    assert status(told(rng, OTHER), days)["same_hours_psi:prediction"].status == "critical"


def test_one_like_day_of_the_week_explains_it():
    rng = np.random.default_rng(3)
    days = [told(rng, NOON) for _ in range(DAYS - 1)]
    sunday = told(rng, OTHER)
    assert status(told(rng, OTHER), [*days, sunday])["same_hours_psi:prediction"].status == (
        "healthy"
    )


def test_two_days_are_too_few_and_none_is_no_judgement():
    rng = np.random.default_rng(4)
    item = status(told(rng, OTHER), [told(rng, NOON), told(rng, NOON), []])
    assert item["same_hours_psi:prediction"].status == "insufficient"
    assert item["same_hours_psi:prediction"].details["reason"] == "2 of 3 days with these hours"
    assert judge_same_hours(told(rng, OTHER), [[], []], POLICY) == []
    assert judge_same_hours([], [told(rng, NOON)], POLICY) == []


def test_few_records_an_hour_are_compared_over_four():
    rng = np.random.default_rng(5)
    few = [Hours(hours.last, hours.last) for hours in told(rng, NOON, n=40)]
    item = status(few, [few] * 3)["same_hours_psi:prediction"]
    assert item.details["windows"] == 4 and item.n == 2 * 8 * 40


@given(
    hours=st.integers(0, 24 * 30),
    open_for=st.one_of(st.none(), st.integers(0, 24 * 20)),
)
def test_no_day_reaches_into_an_open_incident(hours, open_for):
    end = datetime(2026, 1, 1, tzinfo=UTC) + hours * HOUR
    onset = None if open_for is None else end - open_for * HOUR
    back = days_back(end, onset, HOUR)
    assert len(back) == DAYS and all(one % DAY == timedelta(0) and one >= DAY for one in back)
    if onset is not None:
        assert end - back[0] <= onset
        assert onset - (end - back[0]) < DAY + 4 * HOUR or back[0] == DAY


@pytest.mark.django_db
def test_a_change_at_night_fires_within_two_windows_and_a_night_does_not(settings):
    settings.AVIARY_WINDOW_SECONDS = 4 * 3600
    variant = make_release()
    DriftPolicy.objects.create(
        model=variant.version.model, min_devices=3, lookback_windows=6, warning_psi=0.1
    )
    devices = [make_device(f"edge-{i}", variant) for i in range(5)]
    rng = np.random.default_rng(6)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    window = timedelta(hours=4)

    def live(number, shares):
        for device in devices:
            classes = rng.multinomial(300, shares).tolist()
            counts = WindowCounts(n=300, classes=[*classes, 0])
            make_window(device, variant, start + number * window, counts)
        now = start + (number + 1) * window + timedelta(minutes=30)
        evaluate_model(model_id=variant.version.model_id, now=now)

    def mix(number):
        return NOON if 2 <= number % 6 < 5 else NIGHT

    for number in range(26):
        live(number, mix(number))
    rows = DriftEvaluation.objects.filter(metric="same_hours_psi:prediction", slice="all")
    assert rows.filter(status="healthy").count() >= 6
    assert not rows.filter(status__in=DriftEvaluation.BREACHES).exists()
    findings = IncidentFinding.objects.filter(metric="same_hours_psi:prediction", slice="all")
    for number in (26, 27):
        assert not findings.filter(status="firing").exists()
        live(number, OTHER)
    assert findings.get().status == "firing"
