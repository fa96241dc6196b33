"""Who is offered a delta, and that no poll waits for one or writes for one."""

from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from fleet.models import Device
from fleet.polling.answers import reused
from fleet.services.poll_notes import flush_polls
from fleet.services.rollouts import start_rollout
from registry.models import Delta
from registry.services.deltas import make_next_delta
from tests.factories.fleet import (
    DeviceClient,
    make_client,
    make_deployment,
    make_release,
    make_rollout,
    manifest_of,
    set_at_once,
)
from tests.factories.registry import make_model

pytestmark = pytest.mark.django_db
OLD = np.random.default_rng(0).bytes(100_000)
NEW = OLD[:90_000] + b"another head"
CAPABLE = {
    "arch": "x86_64",
    "providers": ["cpu"],
    "memory_mb": 4096,
    "features": ["delta-zstd"],
}


def make_step(**capabilities: Any) -> tuple[DeviceClient, str, Any, Any]:
    """A device that runs the first release of a model, and the release that follows."""
    model = make_model()
    deployment = make_deployment(stable_version=make_release(model, OLD))
    device = make_client(capabilities={**CAPABLE, **capabilities})
    device.install(model.slug)
    return device, model.slug, deployment, make_release(model, NEW)


def test_a_rollout_has_its_deltas_made_before_the_first_device_polls() -> None:
    device, slug, deployment, target = make_step()
    rollout = make_rollout(deployment=deployment, target_version=target)
    made = make_next_delta(now=timezone.now())
    assert made is not None and made.state == Delta.State.READY
    start_rollout(rollout_id=rollout.pk, actor="tester")
    answer = device.poll(slug).json()
    assert answer["delta"]["base_sha256"] == made.base_sha256
    assert answer["delta"]["algorithm"] == "zstd-patch-from"
    assert answer["delta"]["size_bytes"] < answer["size_bytes"] / 2
    assert made.target_sha256 == answer["sha256"]
    assert made.patch is not None and answer["delta"]["sha256"] == made.patch.pk
    assert made.patch.pk in answer["delta"]["url"]


def test_a_step_that_nobody_planned_is_learnt_from_the_polls() -> None:
    device, slug, deployment, target = make_step()
    set_at_once(deployment, target)
    Delta.objects.all().delete()
    assert device.poll(slug).json()["delta"] is None
    assert not Delta.objects.exists(), "a poll makes no delta"
    flush_polls()
    assert Delta.objects.get().state == Delta.State.QUEUED
    make_next_delta(now=timezone.now())
    device.etag = ""
    assert device.poll(slug).json()["delta"] is not None


@pytest.mark.parametrize("features", [[], None, "delta", 7], ids=repr)
def test_a_device_that_cannot_apply_one_is_offered_none(features: Any) -> None:
    device, slug, deployment, target = make_step()
    # A row from before capabilities were checked at the door may hold anything.
    device.device.capabilities["features"] = features
    device.device.save(update_fields=["capabilities"])
    set_at_once(deployment, target)
    make_next_delta(now=timezone.now())
    assert Delta.objects.get().state == Delta.State.READY
    assert device.poll(slug).json()["delta"] is None


def test_a_device_that_runs_something_else_is_offered_none() -> None:
    device, slug, deployment, target = make_step()
    set_at_once(deployment, target)
    make_next_delta(now=timezone.now())
    for running in ("", "f" * 64, manifest_of(target)):
        device.etag, device.running = "", running
        assert device.poll(slug).json()["delta"] is None


def test_looking_for_a_delta_costs_one_query_and_a_304_none(
    django_assert_num_queries: Any,
) -> None:
    device, slug, deployment, target = make_step()
    set_at_once(deployment, target)
    make_next_delta(now=timezone.now())
    device.etag = ""
    device.poll(slug)
    device.etag = ""
    with django_assert_num_queries(3):  # a delta that is there is remembered with the files
        assert device.poll(slug).json()["delta"] is not None
    reused.clear()
    device.etag = ""
    with django_assert_num_queries(7):  # release, files, blobs, and one for the delta
        assert device.poll(slug).json()["delta"] is not None
    with django_assert_num_queries(2):
        assert device.poll(slug).status_code == 304


def test_every_assignment_at_once_offers_the_delta_from_what_was_last_reported() -> None:
    device, slug, deployment, target = make_step()
    set_at_once(deployment, target)
    make_next_delta(now=timezone.now())
    device.client.post(
        "/api/devices/telemetry",
        {"running": {slug: device.running}},
        content_type="application/json",
    )
    (answer,) = device.client.get("/api/models/desired").json()["assignments"]
    assert answer["delta"] is not None


def test_every_assignment_at_once_offers_the_delta_from_what_the_poll_says_is_running() -> None:
    device, slug, deployment, target = make_step()
    set_at_once(deployment, target)
    make_next_delta(now=timezone.now())
    # No report of what it runs has arrived yet.
    Device.objects.update(running={})
    said = {"X-Running-Digests": f"other={'0' * 64}, {slug}={device.running}, {slug}=nonsense"}
    (answer,) = device.client.get("/api/models/desired", headers=said).json()["assignments"]
    assert answer["delta"] is not None
    flush_polls()
    assert Device.objects.get(pk=device.device.pk).running == {slug: device.running}
