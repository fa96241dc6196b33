"""Polls: what is answered, what it costs, and what is kept of it."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import datetime
from typing import Any

import pytest
from django.core.cache import cache

from fleet.models import Device, Installation
from fleet.services import devices
from fleet.services.poll_notes import flush_polls
from registry.keys import trust_keys
from registry.signing import verify_envelope
from tests.factories.fleet import (
    make_client,
    make_deployment,
    make_device,
    make_release,
    make_rollout,
    manifest_of,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def flushed_by_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded server does not write its notes in between."""
    monkeypatch.setattr("fleet.polling.device_api.is_local_flush_due", lambda: False)


def test_the_answer_is_what_the_protocol_says_and_both_signatures_verify() -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    answer = device.poll(slug).json()
    assert set(answer) == {
        "model_id", "version", "variant", "sha256", "size_bytes", "download_url", "url_expires_s",
        "files", "manifest", "assignment", "assignment_id", "rollout", "delta", "trust",
        "poll_after_s",
    }  # fmt: skip
    manifest_bytes = verify_envelope(
        answer["manifest"],
        trust_keys(),
        "application/vnd.aviary.manifest.v1+json",
        role="manifest",
    )
    payload = verify_envelope(
        answer["assignment"],
        trust_keys(),
        "application/vnd.aviary.assignment.v1+json",
        role="assignment",
    )
    said = json.loads(payload)
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    assert payload == canonical == b64decode(answer["assignment"]["payload"])
    assert said["device_id"] == device.device.device_id
    assert said["model"] == json.loads(manifest_bytes)["model"] == slug
    assert said["manifest_sha256"] == manifest_of(deployment.stable_version)
    assert said["assignment_id"] == answer["assignment_id"]
    assert answer["assignment_id"] == f"{slug}.{said['counter']}.{said['manifest_sha256'][:12]}"
    for name in ("issued_at", "expires_at"):
        datetime.strptime(said[name], "%Y-%m-%dT%H:%M:%SZ")
    if answer["download_url"].startswith("http://testserver/"):
        download = device.client.get(answer["download_url"])
        assert b"".join(download.streaming_content)


def test_an_unchanged_answer_is_304_and_a_changed_one_is_not() -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    assert device.poll(slug).status_code == 200
    assert device.poll(slug).status_code == 304
    make_deployment(name="other", selector={"site": ["nowhere"]})
    assert device.poll(slug).status_code == 304
    target = make_release(deployment.model)
    rollout = make_rollout(deployment=deployment, target_version=target)
    start(rollout)
    answer = device.poll(slug).json()
    assert answer["version"] == target.version
    assert answer["rollout"] == {"id": rollout.pk, "stage": 0, "cohort": "canary"}


def start(rollout: Any) -> None:
    from fleet.services.rollouts import start_rollout

    start_rollout(rollout_id=rollout.pk, actor="tester")


def test_nothing_assigned_is_204() -> None:
    slug = make_deployment(selector={"site": ["elsewhere"]}).model.slug
    assert make_client().poll(slug).status_code == 204
    assert make_client().poll("no-such-model").status_code == 204


def test_desired_lists_one_assignment_per_model() -> None:
    slugs = {make_deployment().model.slug for _ in range(2)}
    body = make_client().client.get("/api/models/desired").json()
    assert {answer["model_id"] for answer in body["assignments"]} == slugs
    assert body["poll_after_s"] >= 1


def test_a_304_costs_two_queries_and_only_a_new_offer_is_written(
    django_assert_num_queries: Any,
) -> None:
    slug = make_deployment().model.slug
    device = make_client()
    assert device.poll(slug).status_code == 200
    assert Installation.objects.get().state == "offered"
    device.etag = ""
    # The last asks whether the offer is on record; files and the root of trust are remembered.
    with django_assert_num_queries(3) as captured:
        assert device.poll(slug).status_code == 200
    assert all(query["sql"].startswith("SELECT") for query in captured.captured_queries)
    with django_assert_num_queries(2):
        assert device.poll(slug).status_code == 304


def test_a_flush_writes_last_seen_and_running_digest() -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    device.poll(slug)
    device.running = "f" * 64
    device.poll(slug)
    assert flush_polls() == 2
    row = Device.objects.get(pk=device.device.pk)
    assert row.poll_count == 2 and row.agent_version == "0.1.0"
    assert row.running == {slug: "f" * 64}
    offer = Installation.objects.get()
    assert (offer.state, offer.device_id, offer.rollout_id) == ("offered", row.pk, None)
    assert flush_polls() == 0


def test_events_may_come_before_the_flush_of_their_offer() -> None:
    slug = make_deployment().model.slug
    device = make_client()
    device.install(slug)
    flush_polls()
    assert Installation.objects.get().state == "committed"


def test_a_device_that_reports_another_digest_after_its_commit_has_regressed() -> None:
    slug = make_deployment().model.slug
    device = make_client()
    device.install(slug)
    device.running = "e" * 64
    device.poll(slug)
    flush_polls()
    assert Installation.objects.get().state == "regressed"


def test_the_counter_rises_with_each_change_of_an_assignment() -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    counters = [counter_of(device, slug)]
    rollout = make_rollout(deployment=deployment)
    start(rollout)
    counters.append(counter_of(device, slug))
    from fleet.services.rollouts import abort_rollout

    abort_rollout(rollout_id=rollout.pk, actor="tester", reason="enough")
    counters.append(counter_of(device, slug))
    devices.set_device_labels(device_id=device.device.device_id, labels={"a": "b"}, actor="tester")
    counters.append(counter_of(device, slug))
    assert counters == sorted(set(counters))


def counter_of(device: Any, slug: str) -> int:
    device.etag = ""
    return int(device.poll(slug).json()["assignment_id"].rsplit(".", 2)[1])


def test_a_lost_cache_fails_no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    slug = make_deployment().model.slug
    device = make_client()

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("the cache is down")

    for name in ("get", "set", "add", "incr", "get_many"):
        monkeypatch.setattr(cache, name, broken, raising=False)
    assert device.poll(slug).status_code == 200
    assert device.poll(slug).status_code == 304
    assert make_device()[0].status == "accepted"
