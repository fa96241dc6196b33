"""The rollout's pages and every list: what they show, whom they let in, what they do."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from fleet.models import Installation, Rollout, RolloutEvent
from fleet.services.evidence import submit_evidence
from tests.factories.fleet import make_device
from tests.fleet.admin_pages import (
    GATES,
    STAGES,
    login,
    make_deployment,
    make_rollout,
    make_running,
    page,
)

pytestmark = pytest.mark.django_db

LISTS = ["device", "jointoken", "deployment", "rollout", "installation", "gateevaluation"]


# --- looking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LISTS)
def test_an_empty_list_opens(ada: Client, name: str) -> None:
    assert ada.get(page(f"{name}_changelist")).status_code == 200


@pytest.mark.parametrize("name", ["jointoken", "deployment", "rollout"])
def test_a_form_that_adds_opens(ada: Client, name: str) -> None:
    assert ada.get(page(f"{name}_add")).status_code == 200


@pytest.mark.parametrize("name", LISTS)
def test_a_list_keeps_its_budget_of_queries(
    ada: Client, name: str, django_assert_max_num_queries: Any
) -> None:
    rollout = make_running(devices=6)
    for number in range(6):
        submit_evidence(
            rollout_id=rollout.pk, stage_index=0, metric="prediction_psi", value=0.01 * number
        )
        make_deployment(stable_version=rollout.previous_version)
    with django_assert_max_num_queries(14):
        assert ada.get(page(f"{name}_changelist")).status_code == 200


def test_an_unknown_rollout_or_device_is_not_found(ada: Client) -> None:
    assert ada.get(page("rollout_change", 999)).status_code == 404
    assert ada.get(page("device_change", 999)).status_code == 404


def test_the_draft_page_previews_the_stages(ada: Client) -> None:
    make_device()
    rollout = make_rollout(stages=STAGES, gates=GATES)
    text = ada.get(page("rollout_change", rollout.pk)).content.decode()
    assert "Nothing reaches a device until a person starts it" in text
    assert "~1 device" in text
    assert "Start" in text


def test_the_running_page_shows_value_beside_threshold_and_verdict(ada: Client) -> None:
    rollout = make_running()
    submit_evidence(
        rollout_id=rollout.pk, stage_index=0, metric="prediction_psi", value=0.041,
        control_value=0.038, devices=4, samples=800,
    )  # fmt: skip
    for name in ("rollout_change", "rollout_live"):
        text = ada.get(page(name, rollout.pk)).content.decode()
        for words in ("0.041", "≤ 0.1", "0.038", "PASS", "NO DATA", "4 devices, 800 samples"):
            assert words in text, (name, words)


def test_evidence_of_an_earlier_stage_is_not_this_stages_answer(ada: Client) -> None:
    rollout = make_running()
    submit_evidence(
        rollout_id=rollout.pk, stage_index=0, metric="prediction_psi", value=0.041, devices=4
    )
    Rollout.objects.filter(pk=rollout.pk).update(current_stage=1)
    response = ada.get(page("rollout_change", rollout.pk))
    row = next(r for r in response.context["gates"] if r["gate"].metric == "prediction_psi")
    assert (row["value"], row["verdict"]) == ("–", "NO DATA")


def test_a_text_of_a_device_is_escaped(ada: Client) -> None:
    rollout = make_running(devices=1)
    Installation.objects.update(state="failed", detail="<script>alert(1)</script>")
    text = ada.get(page("rollout_change", rollout.pk)).content.decode()
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


# --- steps of a rollout -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "step", "after"),
    [
        ("draft", "start", "running"),
        ("awaiting_approval", "approve", "running"),
        ("running", "pause", "paused"),
        ("paused", "resume", "running"),
    ],
)
def test_a_button_takes_its_step_and_keeps_the_reason(
    ada: Client, before: str, step: str, after: str
) -> None:
    rollout = make_rollout(stages=STAGES)
    Rollout.objects.update(state=before)
    ada.post(page("rollout_step", rollout.pk, step), {"reason": "as agreed"})
    rollout.refresh_from_db()
    assert rollout.state == after
    event = RolloutEvent.objects.filter(rollout=rollout).latest("id")
    assert (event.actor, event.reason, event.action) == ("ada", "as agreed", step)


def test_a_step_without_a_reason_changes_nothing(ada: Client) -> None:
    rollout = make_rollout()
    response = ada.post(page("rollout_step", rollout.pk, "start"), {"reason": " "})
    assert "Say why" in response.content.decode()
    rollout.refresh_from_db()
    assert rollout.state == "draft"


def test_abort_says_what_it_touches_and_is_done_at_once(ada: Client) -> None:
    rollout = make_running()
    text = ada.get(page("rollout_change", rollout.pk)).content.decode()
    assert "4 devices go back to" in text
    ada.post(page("rollout_step", rollout.pk, "abort"), {"reason": "bad"})
    rollout.refresh_from_db()
    assert rollout.state == "aborting"


def test_advance_says_how_many_more_devices_it_reaches(ada: Client) -> None:
    rollout = make_running(devices=8)
    response = ada.post(page("rollout_step", rollout.pk, "advance"), {"reason": "fine"})
    assert "more are offered" in response.content.decode()


def test_a_step_on_a_rollout_changed_meanwhile_is_refused(ada: Client) -> None:
    rollout = make_running()
    response = ada.post(
        page("rollout_step", rollout.pk, "advance"),
        {"reason": "x", "revision": rollout.revision - 1, "confirmed": "1"},
        follow=True,
    )
    assert "Expected revision" in response.content.decode()
    rollout.refresh_from_db()
    assert rollout.state == "running"


def test_a_get_never_takes_a_step(ada: Client) -> None:
    rollout = make_rollout()
    ada.get(page("rollout_step", rollout.pk, "start"), {"reason": "x", "confirmed": "1"})
    rollout.refresh_from_db()
    assert rollout.state == "draft"


def test_a_step_needs_the_csrf_token() -> None:
    rollout = make_rollout()
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("eve", password="x"))
    url = page("rollout_step", rollout.pk, "start")
    assert client.post(url, {"reason": "x"}).status_code == 403


def test_several_rollouts_are_aborted_after_a_confirmation(ada: Client) -> None:
    rollouts = [make_rollout(), make_rollout()]
    data = {"action": "abort_selected", "_selected_action": [row.pk for row in rollouts]}
    ada.post(page("rollout_changelist"), data)
    assert Rollout.objects.filter(state="draft").count() == 2
    ada.post(page("rollout_changelist"), {**data, "confirmed": "1", "reason": "both bad"})
    assert Rollout.objects.filter(state="aborted").count() == 2


# --- who may ------------------------------------------------------------------------------------


def test_pages_refuse_those_who_may_not_look() -> None:
    rollout, (device, _) = make_rollout(), make_device()
    client = login()
    for url in (
        page("rollout_changelist"), page("rollout_change", rollout.pk),
        page("rollout_live", rollout.pk), page("device_change", device.pk),
        page("device_changelist"), page("deployment_changelist"),
    ):  # fmt: skip
        assert client.get(url).status_code == 403, url


def test_those_who_may_only_look_see_no_buttons_and_cannot_act() -> None:
    rollout, (device, _) = make_rollout(), make_device()
    client = login("view_rollout", "view_device")
    text = client.get(page("rollout_change", rollout.pk)).content.decode()
    assert "formaction" not in text
    assert "formaction" not in client.get(page("device_change", device.pk)).content.decode()
    url = page("rollout_step", rollout.pk, "start")
    assert client.post(url, {"reason": "x"}).status_code == 403
    assert client.post(page("device_act", device.pk, "rotate")).status_code == 403
    assert Rollout.objects.get().state == "draft"


def test_approving_asks_for_its_own_permission() -> None:
    rollout = make_rollout()
    Rollout.objects.update(state="awaiting_approval")
    client = login("view_rollout", "change_rollout")
    url = page("rollout_step", rollout.pk, "approve")
    assert client.post(url, {"reason": "x"}).status_code == 403


def test_a_visitor_is_sent_to_the_login() -> None:
    assert Client().get(page("rollout_changelist")).status_code == 302
