"""From the outbox to receivers that the suite starts, and back again when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Group, User
from django.db import connection
from django.utils import timezone
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from notifications.models import Channel, Delivery, OutboxEvent
from notifications.rules.backoff import MOST_ATTEMPTS
from notifications.services import delivering, outbox, routing
from notifications.services.channels import (
    redeliver,
    rotate_secret,
    save_channel,
    save_rule,
    send_test,
)
from registry.events import Event, Level, publish
from servers.patience import wait_for
from tests.factories.registry import make_model
from tests.notifications.receivers import Receiver, http_receiver, mail_receiver

pytestmark = pytest.mark.django_db
NOW = timezone.now()
DAY = timedelta(days=1)


def happen(kind: str = "rollout.completed", **over: Any) -> None:
    publish([Event(kind=kind, summary=f"{kind} happened", at=NOW, **over)])


def trouble(level: Level = Level.WARNING, *, is_over: bool = False) -> None:
    kind = "incident.resolved" if is_over else "incident.opened"
    happen(kind, level=level, cause="incident/1", is_over=is_over)


def tick(now: datetime = NOW) -> None:
    """What a tick of the worker does."""
    routing.route_waiting(now=now)
    for channel_id in delivering.channels_to_serve(now=now):
        delivering.deliver_waiting(channel_id=channel_id, now=now)


def states() -> list[str]:
    return list(Delivery.objects.order_by("pk").values_list("state", flat=True))


def test_a_webhook_is_signed_as_the_specification_says(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    happen(model="digits", path="/admin/x/", details={"stage": 2})
    tick(timezone.now())
    (request,) = receiver.seen
    body = Webhook(hook[1]).verify(request.body, request.headers)
    assert body["type"] == "rollout.completed"
    assert body["timestamp"] == NOW.isoformat()
    assert body["data"]["model"] == "digits" and body["data"]["details"] == {"stage": 2}
    delivery = Delivery.objects.get()
    assert delivery.state == "delivered" and request.uid == f"msg_{delivery.uid.hex}"
    with pytest.raises(WebhookVerificationError):
        Webhook(hook[1]).verify(request.body + b" ", request.headers)


def test_a_replaced_secret_signs_for_a_day_more(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    now = timezone.now()
    _, new = rotate_secret(channel_id=hook[0].pk, actor="ada", now=now - timedelta(hours=23))
    happen()
    tick(now)
    for secret in (hook[1], new):
        Webhook(secret).verify(receiver.seen[0].body, receiver.seen[0].headers)
    happen()
    tick(now + timedelta(hours=2))
    assert len(receiver.seen[1].headers["webhook-signature"].split()) == 1


def test_secrets_are_encrypted_at_rest_and_a_key_can_be_replaced(
    hook: tuple[Channel, str], receiver: Receiver, settings: Any
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM notifications_channel")
        stored = str(cursor.fetchall())
    assert hook[1] not in stored and "/hook" not in stored
    settings.AVIARY_SECRETS_KEYS = ["a new key", *settings.AVIARY_SECRETS_KEYS]
    happen()
    tick()
    assert states() == ["delivered"]
    save_channel(actor="ada", channel_id=hook[0].pk)  # sealed again with the new key
    settings.AVIARY_SECRETS_KEYS = ["a new key"]
    happen()
    tick()
    assert states() == ["delivered", "delivered"]
    settings.AVIARY_SECRETS_KEYS = ["another"]
    happen()
    tick()
    assert states()[-1] == "waiting"
    assert "AVIARY_SECRETS_KEY" in Delivery.objects.latest("pk").problem


def test_a_failure_is_tried_again_later_and_later_with_the_same_id_then_given_up(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    receiver.answers = [500] * 50
    happen()
    routing.route_waiting(now=NOW)
    waits, now = [], NOW
    for _ in range(MOST_ATTEMPTS):
        assert delivering.deliver_waiting(channel_id=hook[0].pk, now=now) == 1
        row, channel = Delivery.objects.get(), Channel.objects.get()
        assert delivering.deliver_waiting(channel_id=hook[0].pk, now=now) == 0
        waits.append(row.next_attempt_at - now)
        now = max(row.next_attempt_at, channel.retry_at or now)
    assert len({request.uid for request in receiver.seen}) == 1
    assert len(receiver.seen) == MOST_ATTEMPTS
    assert all(later > earlier for earlier, later in pairwise(waits[:7]))
    row = Delivery.objects.get()
    assert (row.state, row.attempts) == ("failed", MOST_ATTEMPTS)
    assert [line["status"] for line in row.history] == [500] * MOST_ATTEMPTS
    assert delivering.channels_to_serve(now=now + DAY) == []


def test_what_was_given_up_is_sent_again_by_a_person_with_the_same_id(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    receiver.answers = [400]
    happen()
    tick()
    Delivery.objects.update(state="failed", attempts=MOST_ATTEMPTS)
    redeliver(delivery_id=Delivery.objects.get().pk, actor="ada", now=NOW)
    tick()
    assert states() == ["delivered"]
    assert receiver.seen[0].uid == receiver.seen[1].uid
    assert [line["status"] for line in Delivery.objects.get().history] == [400, 200]


def test_an_answer_to_one_message_holds_up_no_other_and_one_of_the_receiver_does(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    receiver.answers = [400, 200, (503, {"Retry-After": "120"})]
    for _ in range(4):
        happen()
    tick()
    assert len(receiver.seen) == 3
    assert states() == ["waiting", "delivered", "waiting", "waiting"]
    tick(NOW + timedelta(seconds=119))
    assert len(receiver.seen) == 3
    tick(NOW + timedelta(seconds=121))
    assert states() == ["delivered"] * 4


def test_a_receiver_that_is_gone_is_asked_no_more(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    receiver.answers = [410]
    happen()
    happen()
    tick()
    tick(NOW + DAY)
    assert len(receiver.seen) == 1
    assert not Channel.objects.get().is_enabled
    assert states() == ["failed", "waiting"]


def test_a_private_address_is_refused_when_it_is_called(
    hook: tuple[Channel, str], receiver: Receiver, settings: Any
) -> None:
    settings.AVIARY_ALLOWED_WEBHOOK_PRIVATE = False
    happen()
    tick()
    assert receiver.seen == []
    assert "private address" in Delivery.objects.get().problem


def test_a_dead_receiver_delays_no_other_channel(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    receiver.held.clear()
    with http_receiver() as other:
        second, _ = save_channel(actor="ada", name="other", kind="webhook", url=other.url)
        save_rule(actor="ada", name="other", channel=second)
        happen()
        routing.route_waiting(now=NOW)
        # As a worker that waits for the first receiver holds it.
        Channel.objects.filter(pk=hook[0].pk).update(claimed_until=NOW + timedelta(seconds=9))
        assert delivering.channels_to_serve(now=NOW) == [second.pk]
        assert delivering.deliver_waiting(channel_id=hook[0].pk, now=NOW) == 0
        assert delivering.deliver_waiting(channel_id=second.pk, now=NOW) == 1
        assert len(other.seen) == 1


_DELIVER = """
import sys
import django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[2]
from django.utils import timezone
from notifications.services.delivering import deliver_waiting
deliver_waiting(channel_id=int(sys.argv[1]), now=timezone.now())
"""


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_killed_while_it_sends_delivers_at_least_once(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    happen()
    routing.route_waiting(now=NOW)
    receiver.held.clear()
    worker = subprocess.Popen(
        [sys.executable, "-c", _DELIVER, str(hook[0].pk), connection.settings_dict["NAME"]],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "AVIARY_ALLOWED_WEBHOOK_PRIVATE": "1",
            "SECRET_KEY": django_settings.SECRET_KEY,
        },
    )
    wait_for(receiver.arrived.is_set, "the message", progress=lambda: worker.poll() is None)
    worker.kill()
    worker.wait()
    receiver.held.set()
    assert states() == ["waiting"]
    now = timezone.now()
    assert delivering.channels_to_serve(now=now) == []  # held by the one who is no more
    later = now + timedelta(seconds=delivering.CLAIM_SECONDS)
    assert delivering.channels_to_serve(now=later) == [hook[0].pk]
    delivering.deliver_waiting(channel_id=hook[0].pk, now=later)
    assert states() == ["delivered"]
    assert len(receiver.seen) == 2
    assert receiver.seen[0].uid == receiver.seen[1].uid
    assert receiver.seen[0].body == receiver.seen[1].body


def test_a_rule_chooses_by_kind_model_and_level(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    rule = hook[0].rules.get()
    save_rule(
        actor="ada", rule_id=rule.pk, kinds=["rollout.*"], level="warning",
        models=[make_model(slug="digits")],
    )  # fmt: skip
    happen("rollout.aborted", level=Level.WARNING, model="digits")
    happen("rollout.aborted", level=Level.WARNING, model="faces")
    happen("rollout.completed", model="digits")
    happen("job.failed", level=Level.WARNING, model="digits")
    tick()
    assert [request.json["type"] for request in receiver.seen] == ["rollout.aborted"]
    assert OutboxEvent.objects.filter(routed_at__isnull=True).count() == 0


def test_two_rules_of_one_channel_tell_it_once(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    save_rule(actor="ada", name="again", channel=hook[0], kinds=["rollout.*"])
    happen()
    tick()
    assert len(receiver.seen) == 1


def test_a_cause_is_told_once_again_when_it_grows_worse_and_its_end_once(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    trouble()
    trouble()
    trouble(Level.CRITICAL)
    trouble(Level.WARNING)
    tick()
    trouble(is_over=True)
    trouble(is_over=True)
    tick()
    told = [(r.json["data"]["level"], r.json["data"]["is_over"]) for r in receiver.seen]
    assert told == [("warning", False), ("critical", False), ("warning", True)]


def test_the_end_goes_to_those_who_were_told_and_to_nobody_else(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    rule = hook[0].rules.get()
    save_rule(actor="ada", rule_id=rule.pk, kinds=["incident.opened"], level="warning")
    happen("incident.resolved", cause="incident/7", is_over=True)
    trouble()
    tick()
    trouble(is_over=True)
    tick()
    kinds = [request.json["type"] for request in receiver.seen]
    assert kinds == ["incident.opened", "incident.resolved"]


def quiet(channel: Channel, **over: Any) -> None:
    start = (NOW - timedelta(hours=1)).time()
    end = (NOW + timedelta(hours=1)).time()
    rule = channel.rules.get()
    save_rule(actor="ada", rule_id=rule.pk, quiet_from=start, quiet_until=end, **over)


def test_quiet_hours_hold_what_is_not_critical_until_they_end(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    quiet(hook[0])
    happen()
    happen("rollout.aborted", level=Level.CRITICAL)
    tick()
    assert [request.json["type"] for request in receiver.seen] == ["rollout.aborted"]
    tick(NOW + timedelta(hours=1, seconds=1))
    assert [request.json["type"] for request in receiver.seen][1:] == ["rollout.completed"]


def test_trouble_that_is_over_before_the_quiet_ends_wakes_nobody(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    quiet(hook[0])
    trouble()
    tick()
    trouble(is_over=True)
    tick()
    tick(NOW + DAY)
    assert receiver.seen == [] and states() == ["withdrawn"]
    trouble()  # it comes back by day
    tick(NOW + timedelta(hours=2))
    assert len(receiver.seen) == 1


def test_too_many_waiting_are_counted_and_not_kept(
    hook: tuple[Channel, str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "MOST_WAITING", 2)
    for _ in range(5):
        happen()
    routing.route_waiting(now=NOW)
    assert Delivery.objects.count() == 2 and Channel.objects.get().dropped == 3


def test_old_events_go_with_their_deliveries_and_what_is_not_routed_stays(
    hook: tuple[Channel, str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    for _ in range(3):
        happen()
    tick()
    old = NOW - timedelta(days=settings.AVIARY_NOTIFICATION_DAYS + 1)
    OutboxEvent.objects.filter(pk=OutboxEvent.objects.earliest("pk").pk).update(at=old)
    assert outbox.prune_events() == 1
    assert Delivery.objects.count() == 2
    monkeypatch.setattr(outbox, "MOST_EVENTS", 1)
    happen()
    assert outbox.prune_events() == 1
    assert OutboxEvent.objects.count() == 2
    assert outbox.prune_events() == 0


def test_an_event_of_a_decision_that_is_undone_never_was(hook: tuple[Channel, str]) -> None:
    from django.db import transaction

    with pytest.raises(RuntimeError), transaction.atomic():
        happen()
        raise RuntimeError
    assert not OutboxEvent.objects.exists()


def make(kind: str, **fields: Any) -> Channel:
    channel, _ = save_channel(actor="ada", name=kind, kind=kind, **fields)
    save_rule(actor="ada", name=kind, channel=channel)
    return channel


def test_slack_gets_blocks_in_which_no_text_makes_a_mention(
    receiver: Receiver, settings: Any
) -> None:
    settings.AVIARY_PUBLIC_URL = "https://aviary.example.org"
    make("slack", url=receiver.url)
    publish([Event(kind="job.failed", level=Level.WARNING, summary="<!channel> & all", at=NOW,
                   path="/admin/x/")])  # fmt: skip
    tick()
    message = receiver.seen[0].json
    text = message["blocks"][0]["text"]["text"]
    assert "&lt;!channel&gt; &amp; all" in text and "<!channel>" not in str(message)
    assert "<https://aviary.example.org/admin/x/|Job failed (warning)>" in text


def test_teams_gets_an_adaptive_card(receiver: Receiver, settings: Any) -> None:
    settings.AVIARY_PUBLIC_URL = "https://aviary.example.org"
    make("teams", url=receiver.url)
    happen(model="digits", path="/admin/x/")
    tick()
    (attachment,) = receiver.seen[0].json["attachments"]
    card = attachment["content"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["body"][0]["text"] == "Rollout completed"
    assert {"title": "Model", "value": "digits"} in card["body"][2]["facts"]
    assert card["actions"][0]["url"] == "https://aviary.example.org/admin/x/"


def test_pagerduty_is_triggered_and_resolved_by_one_key(receiver: Receiver) -> None:
    make("pagerduty", url=receiver.url, key="R0UTINGKEY")
    trouble(Level.CRITICAL)
    trouble(is_over=True)
    tick()
    opened, over = (request.json for request in receiver.seen)
    assert opened["event_action"] == "trigger" and over["event_action"] == "resolve"
    assert opened["dedup_key"] == over["dedup_key"] == "aviary/incident/1"
    assert opened["payload"]["severity"] == "critical"
    assert {opened["routing_key"], over["routing_key"]} == {"R0UTINGKEY"}


def test_an_email_goes_to_the_listed_and_to_the_active_members_of_the_group(
    settings: Any,
) -> None:
    group = Group.objects.create(name="on call")
    for name, is_active in (("bob", True), ("gone", False)):
        user = User.objects.create_user(name, f"{name}@example.org", is_active=is_active)
        user.groups.add(group)
    make("email", recipients=["ada@example.org"], group=group)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    publish([Event(kind="job.failed", summary="of line\nX-Evil: 1", at=NOW)])
    with mail_receiver() as (port, mails):
        settings.EMAIL_PORT = port
        tick()
        (mail,) = mails
    assert mail["To"] == "ada@example.org, bob@example.org"
    assert mail["Subject"] == "[Aviary] Job failed: of line X-Evil: 1"
    assert mail["X-Evil"] is None
    assert mail["Message-ID"].startswith(f"<msg_{Delivery.objects.get().uid.hex}@")
    # The mail server is away: the next one waits.
    happen()
    tick()
    assert states() == ["delivered", "waiting"]
    assert "mail server" in Channel.objects.get().problem


def test_a_test_message_reaches_the_channel_and_is_audited(
    hook: tuple[Channel, str], receiver: Receiver
) -> None:
    delivery = send_test(channel_id=hook[0].pk, actor="ada", now=NOW)
    delivering.deliver_waiting(channel_id=hook[0].pk, now=NOW)
    delivery.refresh_from_db()
    assert delivery.state == "delivered"
    assert receiver.seen[0].json["type"] == "channel.test"
