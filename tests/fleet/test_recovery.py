"""After a restore: counters rise past what devices have seen, and devices say who still refuses."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from fleet.models import Device, Plan
from fleet.services.recovery import MAX_JUMP, count_ahead, raise_counters
from registry.models import AuditEvent
from registry.services.audit import verify_chain
from tests.factories.fleet import make_client, make_deployment

pytestmark = pytest.mark.django_db


def counter_of(device: Any, slug: str) -> int:
    device.etag = ""
    return int(device.poll(slug).json()["assignment_id"].rsplit(".", 2)[1])


def report(device: Any, trouble: Any) -> Any:
    return device.client.post(
        "/api/devices/telemetry", {"trouble": trouble}, content_type="application/json"
    )


def test_the_command_raises_every_counter_and_is_on_record() -> None:
    slugs = [make_deployment().model.slug for _ in range(2)]
    device = make_client()
    before = [counter_of(device, slug) for slug in slugs]
    report(device, {f"model {slugs[0]}": "counter_replayed: counter 3 after 9 was acted on"})
    out = StringIO()
    call_command("raise_counters", "--reason", "backup of Tuesday", stdout=out)
    assert "2 counters raised; 1 devices had reported" in out.getvalue()
    after = [counter_of(device, slug) for slug in slugs]
    assert [new - old for old, new in zip(before, after, strict=True)] == [1_000_000] * 2
    call_command("raise_counters", "--by", "5", stdout=out)
    assert counter_of(device, slugs[0]) == after[0] + 5
    event = AuditEvent.objects.filter(action="counters.raised").earliest("pk")
    assert event.details["reason"] == "backup of Tuesday"
    verify_chain()


@pytest.mark.parametrize("by", [0, -1, MAX_JUMP + 1])
def test_a_counter_is_never_lowered(by: int) -> None:
    make_deployment()
    before = Plan.objects.get().counter
    with pytest.raises(CommandError):
        call_command("raise_counters", "--by", str(by))
    assert Plan.objects.get().counter == before


def test_a_raise_reaches_devices_whose_304_is_remembered(
    django_capture_on_commit_callbacks: Any,
) -> None:
    slug = make_deployment().model.slug
    with django_capture_on_commit_callbacks() as callbacks:
        raise_counters(actor="tester", reason="x")
    assert len(callbacks) == 1
    assert Plan.objects.get(model__slug=slug).counter > 1_000_000


def test_what_stands_in_a_devices_way_is_shown_and_goes(api: APIClient, ada_page: Any) -> None:
    device = make_client()
    report(device, {"model digits": "counter_replayed: counter 3 after 9 was acted on"})
    path = f"/api/v1/devices/{device.device.device_id}/"
    assert "counter_replayed" in api.get(path).json()["trouble"]["model digits"]
    assert count_ahead() == 1
    text = ada_page(f"/admin/fleet/device/{device.device.pk}/change/")
    assert "manage.py raise_counters" in text and "counter 3 after 9" in text
    report(device, {})
    assert api.get(path).json()["trouble"] == {}
    assert count_ahead() == 0


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        [],
        "x",
        7,
        {"a": {"b": 1}},
        {str(n): "x" * 9999 for n in range(500)},
        {"a": "\0\u0001"},
    ],
    ids=["none", "list", "text", "number", "nested", "huge", "control"],
)
def test_trouble_of_any_shape_is_kept_small(trouble: Any) -> None:
    device = make_client()
    assert report(device, trouble).status_code in (200, 400)
    kept = Device.objects.get(pk=device.device.pk).trouble
    assert len(kept) <= 32
    assert all(isinstance(words, str) and len(words) <= 300 for words in kept.values())


@pytest.fixture
def ada_page(api: APIClient) -> Any:
    """The text of a page of the admin, as the superuser of `api` sees it."""
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.get(username="ada"))
    return lambda path: client.get(path).content.decode()
