"""Polls that are answered without a view: what the view would answer, and never out of date."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from fleet.models import Device, Installation
from fleet.polling.changes import Listener
from fleet.polling.decisions import Poll, PollAnswer, decide_polls
from fleet.polling.lane import PollLane
from fleet.polling.memory import PollMemory
from fleet.services import devices
from fleet.services.poll_notes import flush_polls
from fleet.services.reconcile import tick_rollouts
from fleet.services.rollouts import start_rollout
from registry.services.versions import transition_version
from servers.patience import wait_for
from tests.factories.fleet import (
    DeviceClient,
    make_client,
    make_deployment,
    make_device,
    make_rollout,
)

pytestmark = pytest.mark.django_db
needs_valkey = pytest.mark.skipif(not os.environ.get("REDIS_URL"), reason="needs Redis or Valkey")


@pytest.fixture(autouse=True)
def known_address(settings: Any) -> None:
    settings.AVIARY_PUBLIC_URL = "http://testserver"


@pytest.fixture
def lane() -> PollLane:
    """A lane that hears every change."""
    lane = PollLane()
    lane.memory.stay_live(10**6)
    return lane


def poll_of(client: DeviceClient, slug: str, **over: Any) -> Poll:
    fields = {
        "authorization": f"Bearer {client.token}",
        "query": urlencode({"device_id": client.device.device_id, "model": slug}),
        "if_none_match": client.etag,
        "running": client.running,
        "agent_version": "0.1.0",
        "is_secure": False,
    }
    return Poll(**{**fields, **over})


def decide(poll: Poll) -> PollAnswer | None:
    return decide_polls([poll], PollMemory(10), timezone.now())[0]


def same_everywhere(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs each time."""
    return {name: value for name, value in answer.items() if name != "poll_after_s"}


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "knows the newest": {"if_none_match": "newest"},
    "knows it by a weak tag": {"if_none_match": 'W/"x", W/newest'},
    "knows another": {"if_none_match": '"other"'},
    "runs it already": {"running": "newest"},
    "says nonsense of what it runs": {"running": "no digest"},
    "a model that nobody has": {"model": "no-such-model"},
    "a long agent version": {"agent_version": "9" * 300},
}


@pytest.mark.parametrize("case", CASES)
def test_the_lane_answers_what_the_view_answers(case: str) -> None:
    deployment = make_deployment()
    client, other = make_client(), make_client()
    slug = deployment.model.slug
    start_rollout(
        rollout_id=make_rollout(
            deployment=deployment, stages=[{"percent": 50}, {"percent": 100}]
        ).pk,
        actor="tester",
    )
    newest = other.poll(slug)  # what makes the release known to this process
    assert newest.status_code == 200
    first = client.poll(slug)
    over = dict(CASES[case])
    wanted = over.pop("model", slug)
    tag = over.get("if_none_match", "").replace("newest", first["ETag"])
    running = over.get("running", "")
    if running == "newest":
        running = Installation.objects.get(device=client.device).manifest_sha256
    client.running = running
    headers = {"X-Agent-Version": over.get("agent_version", "0.1.0")}
    client.etag = tag
    said = client.poll(wanted, **headers)
    answer = decide(
        poll_of(
            client, wanted, if_none_match=tag, running=running,
            agent_version=headers["X-Agent-Version"],
        )
    )  # fmt: skip
    assert answer is not None
    assert answer.status == said.status_code
    headers = dict(answer.headers)
    assert headers.get("ETag") == said.get("ETag")
    assert headers.get("Cache-Control") == said.get("Cache-Control")
    if said.status_code == 200:
        assert headers["Content-Type"] == said["Content-Type"]
        assert same_everywhere(json.loads(answer.body)) == same_everywhere(said.json())
    else:
        assert answer.body == b""


@pytest.mark.parametrize(
    "over",
    [
        {"authorization": ""},
        {"authorization": "Bearer nobody"},
        {"authorization": "Basic YTpi"},
        {"query": "model=x"},
        {"query": "device_id=other&model=x"},
        {"query": "device_id=a&device_id=b&model=x"},
        {"query": "device_id=%00&model=x"},
        {"query": "device_id=é&model=x"},
        {"query": ""},
    ],
    ids=str,
)
def test_what_is_not_plain_is_left_to_the_view(over: dict[str, Any]) -> None:
    slug = make_deployment().model.slug
    assert decide(poll_of(make_client(), slug, **over)) is None


def test_devices_that_may_not_ask_are_left_to_the_view() -> None:
    slug = make_deployment().model.slug
    for status in ("pending", "suspended"):
        assert decide(poll_of(DeviceClient(*make_device(status=status)), slug)) is None


def test_a_server_that_does_not_know_its_address_leaves_answers_to_the_view(
    settings: Any,
) -> None:
    slug = make_deployment().model.slug
    client = make_client()
    client.install(slug)
    settings.AVIARY_PUBLIC_URL = ""
    assert decide(poll_of(client, slug, if_none_match="")) is None
    unchanged = decide(poll_of(client, slug))
    assert unchanged is not None and unchanged.status == 304
    settings.AVIARY_PUBLIC_URL, settings.AVIARY_HTTPS = "https://testserver", True
    assert decide(poll_of(client, slug, if_none_match="")) is None
    assert decide(poll_of(client, slug, if_none_match="", is_secure=True)) is not None


def test_many_polls_cost_what_few_do(lane: PollLane, django_assert_max_num_queries: Any) -> None:
    deployment = make_deployment()
    slug = deployment.model.slug
    clients = [make_client() for _ in range(12)]
    make_client().poll(slug)
    polls = [poll_of(client, slug) for client in clients]
    # Devices, plan, offers on record, variants, the offers, older ones; begin and end.
    with django_assert_max_num_queries(10):
        answers = lane.decide(polls)
    assert [answer.status for answer in answers if answer] == [200] * 12
    assert Installation.objects.filter(state="offered").count() == 13
    with django_assert_max_num_queries(4):
        answers = lane.decide(polls)
    assert [answer.status for answer in answers if answer] == [200] * 12
    etags = [dict(answer.headers)["ETag"] for answer in answers if answer]
    again = [poll._replace(if_none_match=etag) for poll, etag in zip(polls, etags, strict=True)]
    with django_assert_max_num_queries(2):
        assert {answer.status for answer in lane.decide(again) if answer} == {304}
    with django_assert_max_num_queries(0):
        assert all(lane.recall(*poll[:5]) for poll in again)
    assert flush_polls() == 1 + 4 * 12
    assert sorted(Device.objects.values_list("poll_count", flat=True)) == [1] + [4] * 12


def test_one_device_with_impossible_facts_costs_the_others_nothing(lane: PollLane) -> None:
    slug = make_deployment().model.slug
    odd, good = make_client(), make_client()
    Device.objects.filter(pk=odd.device.pk).update(capabilities=["not", "an", "object"])
    answers = lane.decide([poll_of(odd, slug), poll_of(good, slug)])
    assert answers[0] is None
    assert answers[1] is not None and answers[1].status == 200


def test_an_offer_ends_the_older_ones_of_its_device_alone(lane: PollLane) -> None:
    deployment = make_deployment()
    slug = deployment.model.slug
    clients = [make_client() for _ in range(3)]
    lane.decide([poll_of(client, slug) for client in clients])
    start_rollout(rollout_id=make_rollout(deployment=deployment).pk, actor="tester")
    lane.memory.hear(f"plan:{slug}")
    lane.decide([poll_of(client, slug) for client in clients[:2]])
    rows = Installation.objects.order_by("pk").values_list("device_id", "state")
    first, second, third = (client.device.pk for client in clients)
    assert list(rows) == [
        (first, "cancelled"), (second, "cancelled"), (third, "offered"),
        (first, "offered"), (second, "offered"),
    ]  # fmt: skip


@pytest.fixture
def listening(lane: PollLane) -> Iterator[PollLane]:
    """A lane that hears changes as a web process does."""
    lane.memory.stop()
    listener = Listener(lane.memory)
    listener.start()
    wait_for(lambda: lane.memory.is_live, "the line to the messages")
    yield lane
    listener.end()
    listener.join()


@needs_valkey
@pytest.mark.parametrize("change", ["suspend", "rotate", "label", "rollout", "yank"])
def test_a_remembered_answer_ends_when_something_changes(
    listening: PollLane, change: str, django_capture_on_commit_callbacks: Any
) -> None:
    deployment = make_deployment()
    slug = deployment.model.slug
    client = make_client()
    client.install(slug)
    poll = poll_of(client, slug)
    assert decide_polls([poll], listening.memory, timezone.now())[0] is not None
    assert listening.recall(*poll[:5])
    name = client.device.device_id
    with django_capture_on_commit_callbacks(execute=True):
        if change == "suspend":
            devices.set_device_status(device_id=name, status="suspended", actor="tester")
        elif change == "rotate":
            devices.rotate_credential(device_id=name, actor="tester")
        elif change == "label":
            devices.set_device_labels(device_id=name, labels={"a": "b"}, actor="tester")
        elif change == "rollout":
            start_rollout(rollout_id=make_rollout(deployment=deployment).pk, actor="tester")
        else:
            transition_version(
                version_id=deployment.stable_version_id, to="yanked", actor="tester", reason="bad"
            )
            tick_rollouts()
    wait_for(lambda: not listening.recall(*poll[:5]), "the change to be heard")


@needs_valkey
def test_a_broken_line_forgets_everything_until_it_is_back(listening: PollLane) -> None:
    from fleet.polling.shared import shared_client

    slug = make_deployment().model.slug
    client = make_client()
    client.install(slug)
    poll = poll_of(client, slug)
    listening.decide([poll])
    assert listening.recall(*poll[:5])
    server = shared_client()
    assert server is not None
    server.client_kill_filter(_type="pubsub")
    wait_for(lambda: not listening.recall(*poll[:5]), "the break to be noticed")
    wait_for(lambda: listening.memory.is_live, "the line to be back")
    assert not listening.recall(*poll[:5])
