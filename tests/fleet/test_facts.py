"""Offers are facts: no trouble of the cache, the flush or the server loses or bends one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import OperationalError
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from fleet.models import Device, Installation, Rollout, ServerPresence
from fleet.polling import heard
from fleet.polling import poll_notes as polls
from fleet.rules.presence import Presence, longest_gap, look
from fleet.services import poll_notes as flushing
from fleet.services import rollouts
from fleet.services.poll_notes import flush_polls
from fleet.services.reconcile import tick_rollouts
from tests.factories.fleet import make_client, make_deployment, make_rollout

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def shared_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own cache stands for one that all processes share."""
    monkeypatch.setattr(heard, "has_shared_cache", lambda: True)
    monkeypatch.setattr("fleet.polling.device_api.is_local_flush_due", lambda: False)


def offer_to(count: int = 4, **over: Any) -> tuple[Rollout, list[Any], list[dict[str, Any]]]:
    """A running rollout whose devices have all been offered the target."""
    deployment = make_deployment()
    clients = [make_client() for _ in range(count)]
    for client in clients:
        client.install(deployment.model.slug)
    stage = {"percent": 100, "bake_seconds": 0, "patience_seconds": 10**6, "min_devices": count}
    rollout = make_rollout(deployment=deployment, stages=[stage], **over)
    rollouts.start_rollout(rollout_id=rollout.pk, actor="tester")
    answers = []
    for client in clients:
        client.etag = ""
        answers.append(client.poll(deployment.model.slug).json())
    return rollout, clients, answers


def watch(begin: datetime, end: datetime, step: timedelta = timedelta(seconds=60)) -> None:
    """Ticks of a server that is there all the time, and is asked something now and then."""
    at = begin
    while at <= end:
        cache.set("fleet:web:heard", at.timestamp(), None)
        tick_rollouts(now=at)
        at += step


def states(rollout: Rollout) -> set[str]:
    return set(rollout.installations.order_by().values_list("state", flat=True))


# --- what is lost with the cache ----------------------------------------------------------------


@pytest.mark.parametrize("loss", ["flushed cache", "failed flush", "lost notes"])
def test_an_offer_survives_whatever_happens_to_the_notes(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout, _, _ = offer_to(3)
    if loss == "flushed cache":
        cache.clear()
    elif loss == "failed flush":

        def down(*args: Any, **kwargs: Any) -> None:
            raise OperationalError("server closed the connection")

        with monkeypatch.context() as patch:
            patch.setattr(flushing, "_write", down)
            with pytest.raises(OperationalError):
                flush_polls()
    else:
        with polls.taken_polls():
            pass
    flush_polls()
    assert rollout.installations.count() == 3
    assert states(rollout) == {"offered"}


def test_a_flush_that_fails_leaves_its_notes_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_client()
    slug = make_deployment().model.slug
    for _ in range(3):
        device.poll(slug)

    def down(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(flushing, "_write", down)
        with pytest.raises(OperationalError):
            flush_polls()
    assert flush_polls() == 3
    assert Device.objects.get(pk=device.device.pk).poll_count == 3
    assert flush_polls() == 0


def test_two_flushes_at_once_take_no_note_twice() -> None:
    device = make_client()
    slug = make_deployment().model.slug
    for _ in range(5):
        device.poll(slug)
    with polls.taken_polls() as first, polls.taken_polls() as second:
        assert (sum(note.polls for note in first), second) == (5, [])
    with polls.taken_polls() as third:
        assert third == []


def test_repeated_answers_make_one_offer_and_a_lost_cache_loses_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slug = make_deployment().model.slug
    device = make_client()

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("the cache is down")

    for name in ("get", "set", "add", "incr", "get_many"):
        monkeypatch.setattr(cache, name, broken, raising=False)
    for _ in range(3):
        device.etag = ""
        assert device.poll(slug).status_code == 200
    assert Installation.objects.count() == 1
    assert device.client.get("/api/models/desired").status_code == 200
    assert Installation.objects.count() == 1


# --- outages ------------------------------------------------------------------------------------


def test_devices_that_are_silent_while_the_server_is_there_have_failed() -> None:
    rollout, _, _ = offer_to()
    begin = timezone.now()
    watch(begin, begin + HOUR + timedelta(minutes=3))
    rollout.refresh_from_db()
    assert rollout.state in ("aborting", "aborted")
    assert states(rollout) == {"timed_out"}


@pytest.mark.parametrize("minutes", [5, 61, 180, 60 * 24 * 3])
@pytest.mark.parametrize("what", ["everything or a jump of the clock", "web"])
def test_an_outage_or_a_jump_of_the_clock_is_not_the_devices_failure(
    minutes: int, what: str
) -> None:
    rollout, clients, answers = offer_to()
    begin = timezone.now()
    watch(begin, begin + timedelta(minutes=2))
    away = timedelta(minutes=minutes)
    if what == "web":
        # The worker ticks on; no web process answers anybody.
        at = begin + timedelta(minutes=3)
        while at < begin + away:
            tick_rollouts(now=at)
            at += max(timedelta(seconds=60), away / 20)
    back = begin + timedelta(minutes=2) + away
    watch(back, back + timedelta(minutes=2))
    rollout.refresh_from_db()
    assert rollout.state == "running", rollout.reason
    assert "timed_out" not in states(rollout)
    for client, answer in zip(clients, answers, strict=True):
        client.report(answer["assignment_id"], "downloading", "verified", "trial", "committed")
    watch(back + timedelta(minutes=3), back + timedelta(minutes=4))
    rollout.refresh_from_db()
    assert rollout.state == "completed"


def test_after_an_outage_the_silent_time_out_all_the_same() -> None:
    rollout, _, _ = offer_to()
    begin = timezone.now()
    back = begin + 3 * HOUR
    watch(back, back + HOUR + timedelta(minutes=3))
    rollout.refresh_from_db()
    assert rollout.state in ("aborting", "aborted")


def test_a_lost_mark_of_the_web_costs_time_alone() -> None:
    rollout, _, _ = offer_to()
    begin = timezone.now()
    watch(begin, begin + timedelta(minutes=50))
    cache.clear()
    tick_rollouts(now=begin + timedelta(minutes=51))
    assert ServerPresence.objects.get().counted_from == begin + timedelta(minutes=51)
    watch(begin + timedelta(minutes=52), begin + timedelta(minutes=62))
    assert states(rollout) == {"offered"}


def test_an_abort_waits_for_devices_that_could_not_hear_of_it() -> None:
    rollout, clients, answers = offer_to(1)
    clients[0].report(answers[0]["assignment_id"], "committed")
    rollouts.abort_rollout(rollout_id=rollout.pk, actor="tester")
    back = timezone.now() + 5 * HOUR
    watch(back, back + timedelta(minutes=2))
    rollout.refresh_from_db()
    assert rollout.state == "aborting"
    watch(back + timedelta(minutes=3), back + HOUR + timedelta(minutes=3))
    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"


def test_that_a_web_process_answers_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "_next_mark", 0.0)
    heard.send_mark()
    assert heard.last_heard(timezone.now()) is None
    heard.note_heard()
    heard.send_mark()
    at = heard.last_heard(timezone.now())
    assert at is not None and abs(timezone.now() - at) < timedelta(minutes=1)


@given(
    st.lists(st.tuples(st.integers(-7200, 7200), st.booleans()), min_size=1, max_size=40),
)
def test_nothing_is_counted_across_a_gap(steps: list[tuple[int, bool]]) -> None:
    gap = longest_gap(timedelta(seconds=10), HOUR)
    presence: Presence | None = None
    now = START
    for seconds, is_heard in steps:
        before, now = now, now + timedelta(seconds=seconds)
        presence = look(presence, now, gap=gap, heard_at=now if is_heard else None)
        assert presence.counted_from <= presence.seen_at == now
        if now - before > gap or now < before or not is_heard:
            assert presence.counted_from == now


@pytest.mark.parametrize(
    ("tick", "timeout", "expected"), [(10, 3600, 120), (10, 60, 30), (1, 60, 15), (60, 3600, 180)]
)
def test_the_longest_gap_suits_tick_and_timeout(tick: int, timeout: int, expected: int) -> None:
    found = longest_gap(timedelta(seconds=tick), timedelta(seconds=timeout))
    assert found == timedelta(seconds=expected)
