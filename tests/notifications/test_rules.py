"""The decisions: pure functions over values."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.rules.backoff import (
    FIRST_SECONDS,
    LONGEST_PROBE_SECONDS,
    LONGEST_SECONDS,
    probe_seconds,
    retry_seconds,
)
from notifications.rules.causes import Told, Verdict, judge_event
from notifications.rules.matching import Wanted, find_unknown, is_wanted
from notifications.rules.quiet_hours import QuietHours, quiet_until

NIGHT = QuietHours(time(22), time(7), "Europe/Berlin")
TIMES = st.times().map(lambda moment: moment.replace(second=0, microsecond=0))


def berlin(text: str, fold: int = 0) -> datetime:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
    return local.astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-06-10 21:59", None),
        ("2026-06-10 22:00", "2026-06-11 07:00"),
        ("2026-06-11 03:00", "2026-06-11 07:00"),
        ("2026-06-11 07:00", None),
        ("2026-03-28 23:00", "2026-03-29 07:00"),  # the clocks go forward in this night
        ("2026-10-24 23:00", "2026-10-25 07:00"),  # and back in this one
    ],
)
def test_a_night_ends_by_the_clock_on_the_wall(now: str, until: str | None) -> None:
    assert quiet_until(NIGHT, berlin(now)) == (berlin(until) if until else None)


def test_a_night_in_which_the_clocks_change_is_an_hour_shorter_or_longer() -> None:
    spring, autumn = berlin("2026-03-28 23:00"), berlin("2026-10-24 23:00")
    lengths = [(quiet_until(NIGHT, at) or at) - at for at in (spring, autumn)]
    assert lengths == [timedelta(hours=7), timedelta(hours=9)]


def test_quiet_that_ends_in_the_hour_that_is_there_twice_ends_in_the_second() -> None:
    hours = QuietHours(time(1), time(2, 30), "Europe/Berlin")
    first, second = berlin("2026-10-25 02:10"), berlin("2026-10-25 02:10", fold=1)
    assert quiet_until(hours, first) == berlin("2026-10-25 02:30")
    assert quiet_until(hours, second) == berlin("2026-10-25 02:30", fold=1)


@given(TIMES, TIMES, st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))
def test_the_end_of_quiet_is_ahead_within_a_day_and_quiet_is_over_then(
    start: time, end: time, naive: datetime
) -> None:
    now = naive.replace(tzinfo=UTC)
    hours = QuietHours(start, end, "America/New_York")
    until = quiet_until(hours, now)
    if until is not None:
        assert now < until <= now + timedelta(hours=25, minutes=1)


def test_no_quiet_where_none_is_set() -> None:
    now = berlin("2026-06-10 23:00")
    assert quiet_until(None, now) is None
    assert quiet_until(QuietHours(time(5), time(5), "UTC"), now) is None


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_lie_between_half_and_the_whole_of_the_step(attempts: int, draw: float) -> None:
    whole = min(FIRST_SECONDS * 4.0 ** min(attempts - 1, 30), LONGEST_SECONDS)
    assert whole / 2 <= retry_seconds(attempts, draw) <= whole
    assert probe_seconds(attempts, draw) <= LONGEST_PROBE_SECONDS


def test_a_receiver_that_asks_for_more_time_gets_it_up_to_the_longest() -> None:
    assert retry_seconds(1, 0.0, asked=120.0) == 120.0
    assert retry_seconds(1, 0.0, asked=1e9) == LONGEST_SECONDS
    with pytest.raises(ValueError, match="1 or more"):
        retry_seconds(0, 0.5)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), True),
        (Wanted(kinds=("rollout.*",)), True),
        (Wanted(kinds=("rollout.aborted", "job.*")), True),
        (Wanted(kinds=("roll.*",)), False),
        (Wanted(kinds=("rollout",)), False),
        (Wanted(models=frozenset({"digits"})), True),
        (Wanted(models=frozenset({"faces"})), False),
        (Wanted(level="warning"), True),
        (Wanted(level="critical"), False),
    ],
)
def test_a_rule_is_about_kinds_models_and_levels(wanted: Wanted, expected: bool) -> None:
    found = is_wanted(wanted, kind="rollout.aborted", model="digits", level="warning")
    assert found is expected


def test_a_pattern_that_fits_nothing_is_found() -> None:
    known = {"rollout.started", "job.done"}
    assert find_unknown(["rollout.*", "job.done", "rolout.*", "job"], known) == ["rolout.*", "job"]


SENT, HELD = Told("warning", False, False), Told("warning", False, True)
OVER = Told("warning", True, False)


@pytest.mark.parametrize(
    ("cause", "level", "is_over", "last", "verdict"),
    [
        ("", "info", False, None, Verdict.TELL),
        ("c", "warning", False, None, Verdict.TELL),
        ("c", "warning", False, SENT, Verdict.SKIP),
        ("c", "info", False, HELD, Verdict.SKIP),
        ("c", "critical", False, SENT, Verdict.TELL),
        ("c", "warning", False, OVER, Verdict.TELL),
        ("c", "warning", True, None, Verdict.SKIP),
        ("c", "warning", True, SENT, Verdict.TELL),
        ("c", "warning", True, OVER, Verdict.SKIP),
        ("c", "warning", True, HELD, Verdict.WITHDRAW),
    ],
)
def test_each_cause_is_told_once_and_its_end_once(
    cause: str, level: str, is_over: bool, last: Told | None, verdict: Verdict
) -> None:
    assert judge_event(cause=cause, level=level, is_over=is_over, last=last) is verdict
