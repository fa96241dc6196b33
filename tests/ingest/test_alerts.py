"""The life of an incident."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingest.rules.incident_rules import Event, Observation, Status, Track, step_alert

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BREACH = Observation(0.5, 0.2, True)
CRITICAL = Observation(0.9, 0.2, True, True)
CALM = Observation(0.1, 0.2, False)
NEAR = Observation(0.18, 0.2, False)
NOTHING = Observation(None, 0.2, False)


def play(*seen, track=None, now=NOW):
    events = []
    for observation in seen:
        track, event = step_alert(track, observation, now)
        events.append(event)
    return track, events


def test_one_breach_is_pending_and_the_second_of_three_fires():
    track, events = play(BREACH, CALM, BREACH)
    assert track.status is Status.FIRING
    assert events == [Event.OPENED, None, Event.FIRED]


def test_a_lone_breach_is_dropped():
    track, events = play(BREACH, CALM, CALM)
    assert track.status is Status.DROPPED and events[-1] is Event.DROPPED


def test_it_resolves_after_three_calm_windows_in_a_row():
    track, events = play(BREACH, BREACH, CALM, CALM, NEAR, CALM, CALM, CALM)
    assert track.status is Status.RESOLVED and track.resolved_at == NOW
    assert events.count(Event.RESOLVED) == 1 and events[-1] is Event.RESOLVED


def test_just_below_the_threshold_is_not_calm():
    track, _ = play(BREACH, BREACH, *[NEAR] * 10)
    assert track.status is Status.FIRING


def test_acknowledged_incidents_stay_so_until_calm():
    track = Track(Status.ACKNOWLEDGED)
    assert play(BREACH, track=track)[0].status is Status.ACKNOWLEDGED
    assert play(CALM, CALM, CALM, track=track)[0].status is Status.RESOLVED


def test_the_same_incident_reopens_within_a_day_and_not_later():
    resolved = Track(Status.RESOLVED, resolved_at=NOW)
    soon, events = play(BREACH, BREACH, track=resolved, now=NOW + timedelta(hours=23))
    assert soon.status is Status.FIRING and events[-1] is Event.REOPENED
    later, events = play(BREACH, track=resolved, now=NOW + timedelta(hours=25))
    assert later.status is Status.PENDING and events == [Event.OPENED]


def test_windows_without_data_neither_calm_nor_raise():
    track, events = play(BREACH, NOTHING, BREACH, CALM, CALM, NOTHING, CALM)
    assert track.status is Status.RESOLVED
    assert Event.NO_DATA in events


def test_no_data_returns_to_where_it_was():
    track, _ = play(NOTHING, track=Track(Status.ACKNOWLEDGED))
    assert track.status is Status.NO_DATA
    track, events = play(BREACH, track=track)
    assert track.status is Status.ACKNOWLEDGED and events == [Event.DATA_BACK]


def test_a_worse_breach_escalates_once():
    _, events = play(BREACH, BREACH, CRITICAL, CRITICAL)
    assert events[2:] == [Event.ESCALATED, None]


@given(st.lists(st.sampled_from([BREACH, CRITICAL, CALM, NEAR, NOTHING]), max_size=40))
def test_nothing_fires_without_two_breaches_in_three_judged_windows(seen):
    track = None
    judged = []
    for observation in seen:
        track, event = step_alert(track, observation, NOW)
        if observation.value is not None:
            judged.append(observation.is_breach)
        if event in (Event.FIRED, Event.REOPENED):
            assert sum(judged[-3:]) >= 2
