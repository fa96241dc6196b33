"""Channels, rules and deliveries over the management API and the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from notifications.models import Channel, Delivery, OutboxEvent, Rule
from registry.models import AuditEvent
from tests.factories.registry import make_model
from tests.notifications.receivers import Receiver

pytestmark = pytest.mark.django_db
HOOK = {"name": "hook", "kind": "webhook", "url": "https://hooks.example.org/t/s3cr3t"}


def post(api: APIClient, path: str, body: dict[str, Any]) -> Any:
    return api.post(f"/api/v1/{path}", body, format="json")


def test_a_channel_s_secrets_go_in_and_never_out(api: APIClient) -> None:
    made = post(api, "channels/", HOOK)
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert secret.startswith("whsec_")
    one = f"/api/v1/channels/{made.json()['id']}/"
    answers = [api.get("/api/v1/channels/").content, api.get(one).content, made.content]
    assert all(b"s3cr3t" not in answer for answer in answers)
    assert all(secret.encode() not in answer for answer in answers[:2])
    assert api.get(one).json()["hint"] == "https://hooks.example.org/…"
    replaced = post(api, f"channels/{made.json()['id']}/replace-secret/", {}).json()["secret"]
    assert replaced.startswith("whsec_") and replaced != secret
    details = str(list(AuditEvent.objects.values("summary", "details")))
    assert "s3cr3t" not in details and secret not in details and replaced not in details


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "kind": "webhook"},
        {"name": "a", "kind": "slack", "url": "ftp://x.example/"},
        {"name": "a", "kind": "slack", "url": "https://x.example/", "key": "k"},
        {"name": "a", "kind": "teams", "url": "https://u:p@x.example/"},
        {"name": "a", "kind": "pagerduty"},
        {"name": "a", "kind": "email"},
        {"name": "a", "kind": "email", "recipients": ["nobody"]},
        {"name": "a", "kind": "email", "recipients": ["a@b.example"], "url": "https://x.example/"},
        {"name": "a", "kind": "webhook", "url": "https://x.example/", "recipients": ["a@b.ex"]},
        {"name": "a", "kind": "carrier pigeon"},
        {"name": "a", "kind": "webhook", "url": "https://x.example/", "adress": "x"},
    ],
)
def test_a_channel_that_does_not_fit_its_kind_is_refused(
    api: APIClient, body: dict[str, Any]
) -> None:
    answer = post(api, "channels/", body)
    assert answer.status_code == 400 and answer.json()["message"]
    assert not Channel.objects.exists()


def test_names_are_there_once_and_a_kind_stays(api: APIClient) -> None:
    made = post(api, "channels/", HOOK).json()
    assert post(api, "channels/", HOOK).status_code == 409
    changed = api.patch(f"/api/v1/channels/{made['id']}/", {"kind": "slack"}, format="json")
    assert changed.status_code == 400
    off = api.patch(f"/api/v1/channels/{made['id']}/", {"is_enabled": False}, format="json")
    assert off.json()["is_enabled"] is False and off.json()["hint"] == made["hint"]
    assert post(api, f"channels/{made['id']}/test/", {}).status_code == 400
    assert api.delete(f"/api/v1/channels/{made['id']}/").status_code == 204
    actions = list(AuditEvent.objects.order_by("pk").values_list("action", flat=True))
    assert actions == ["channel.made", "channel.changed", "channel.deleted"]


def test_a_rule_names_channels_and_models_and_is_checked(api: APIClient) -> None:
    post(api, "channels/", HOOK)
    make_model(slug="digits")
    body = {
        "name": "night",
        "channel": "hook",
        "kinds": ["rollout.*"],
        "models": ["digits"],
        "quiet_from": "22:00",
        "quiet_until": "07:00",
        "time_zone": "Europe/Berlin",
    }
    made = post(api, "notification-rules/", body)
    assert made.status_code == 201 and made.json()["models"] == ["digits"]
    for wrong in ({"kinds": ["rolout.*"]}, {"time_zone": "Mars/Base"}, {"quiet_from": None},
                  {"models": ["none"]}, {"level": "loud"}, {"chanel": "x"}):  # fmt: skip
        address = f"/api/v1/notification-rules/{made.json()['id']}/"
        assert api.patch(address, wrong, format="json").status_code == 400, wrong
    assert post(api, "notification-rules/", body).status_code == 409
    assert Rule.objects.get().kinds == ["rollout.*"]


def test_a_test_and_a_delivery_sent_again(
    api: APIClient, hook: tuple[Channel, str], receiver: Receiver, settings: Any,
    django_capture_on_commit_callbacks: Any,
) -> None:  # fmt: skip
    settings.CELERY_TASK_ALWAYS_EAGER = True
    from config.celery import app

    app.conf.task_always_eager = True
    try:
        with django_capture_on_commit_callbacks(execute=True):
            sent = post(api, f"channels/{hook[0].pk}/test/", {})
        assert sent.status_code == 202
        path = f"deliveries/{sent.json()['id']}/"
        shown = api.get(f"/api/v1/{path}").json()
        assert shown["state"] == "delivered" and shown["message_id"] == receiver.seen[0].uid
        with django_capture_on_commit_callbacks(execute=True):
            assert post(api, f"{path}redeliver/", {}).status_code == 200
    finally:
        app.conf.task_always_eager = False
    assert receiver.seen[1].uid == receiver.seen[0].uid
    Delivery.objects.update(state="waiting")
    assert post(api, f"{path}redeliver/", {}).status_code == 409
    assert api.get("/api/v1/deliveries/?state=waiting&channel=hook").json()["results"]
    assert api.get("/api/v1/events/?kind=channel.test").json()["results"]
    kinds = api.get("/api/v1/events/kinds/").json()
    assert {"kind", "when"} == set(kinds[0]) and len(kinds) > 25


def test_the_pages_make_a_channel_show_its_secret_once_and_send_a_test(
    ada: Client, hook: tuple[Channel, str], receiver: Receiver
) -> None:
    add = reverse("admin:notifications_channel_add")
    form = {"name": "second", "kind": "webhook", "is_enabled": "on", "url": receiver.url}
    answer = ada.post(add, form)
    assert answer.status_code == 200 and b"whsec_" in answer.content
    wrong = ada.post(add, {"name": "third", "kind": "pagerduty", "is_enabled": "on"})
    assert b"routing key" in wrong.content and Channel.objects.count() == 2
    page = Channel.objects.get(name="second").get_absolute_url()
    assert receiver.url.encode() not in ada.get(page).content
    test = reverse("admin:notifications_channel_test_channel", args=[hook[0].pk])
    assert ada.get(test).status_code == 200 and not OutboxEvent.objects.exists()
    moved = ada.post(test)
    assert moved.status_code == 302 and Delivery.objects.count() == 1
    assert b"ada tests channel hook" in ada.get(moved["Location"]).content
    replace = reverse("admin:notifications_channel_replace_secret", args=[hook[0].pk])
    assert b"whsec_" in ada.post(replace).content


def test_the_page_of_a_rule_ticks_kinds(ada: Client, hook: tuple[Channel, str]) -> None:
    add = reverse("admin:notifications_rule_add")
    form = {"name": "jobs", "channel": hook[0].pk, "is_enabled": "on", "kinds": ["job.*"],
            "level": "info", "time_zone": "UTC"}  # fmt: skip
    assert ada.post(add, form).status_code == 302
    assert Rule.objects.get(name="jobs").kinds == ["job.*"]
    half = ada.post(add, {**form, "name": "half", "quiet_from": "22:00"})
    assert b"both their beginning and their end" in half.content


def test_queries_of_the_lists_do_not_grow(
    api: APIClient, django_assert_max_num_queries: Any
) -> None:
    for number in range(5):
        post(api, "channels/", {**HOOK, "name": f"hook {number}"})
        post(api, "notification-rules/", {"name": f"r{number}", "channel": f"hook {number}"})
    for path, most in (("channels/", 1), ("notification-rules/", 2), ("deliveries/", 1)):
        with django_assert_max_num_queries(most):
            assert api.get(f"/api/v1/{path}").status_code == 200
