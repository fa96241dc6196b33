"""Pause and abort always work; every change of state is a POST with a CSRF token."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from fleet.models import Rollout
from fleet.rules.transitions import is_allowed
from fleet.services import rollouts
from tests.fleet.admin_pages import make_running, page

pytestmark = pytest.mark.django_db
LIVE = [("running", ""), ("paused", "person"), ("paused", "gate"), ("paused", "no_evidence")]
AFTER = {"pause": "paused", "abort": "aborting"}


@pytest.mark.parametrize("step", AFTER)
@pytest.mark.parametrize(("state", "kind"), LIVE)
@pytest.mark.parametrize("revision", [-1, 0, 1, 77, 2**31 - 1, "", "x"])
def test_a_button_stops_whatever_revision_the_page_had(
    ada: Client, step: str, state: str, kind: str, revision: Any
) -> None:
    rollout = make_running()
    Rollout.objects.update(state=state, pause_kind=kind)
    ada.post(page("rollout_step", rollout.pk, step), {"revision": revision})
    rollout.refresh_from_db()
    assert rollout.state == AFTER[step]
    if step == "pause":
        assert rollout.pause_kind == "person"


@pytest.mark.parametrize("step", AFTER)
@pytest.mark.parametrize(("state", "kind"), LIVE)
@pytest.mark.parametrize("body", [{}, {"revision": 0}, {"revision": 10**6}, {"reason": ""}])
def test_the_api_stops_whatever_revision_was_seen(
    api: APIClient, step: str, state: str, kind: str, body: dict[str, Any]
) -> None:
    rollout = make_running()
    Rollout.objects.update(state=state, pause_kind=kind)
    answer = api.post(f"/api/v1/rollouts/{rollout.pk}/{step}/", body, format="json")
    assert (answer.status_code, answer.json()["state"]) == (200, AFTER[step])
    again = api.post(f"/api/v1/rollouts/{rollout.pk}/{step}/", body, format="json")
    assert (again.status_code, again.json()["state"]) == (200, AFTER[step])
    is_held_already = (step, kind) == ("pause", "person")
    assert rollout.events.filter(action=step).count() == (0 if is_held_already else 1)


def test_a_persons_pause_of_one_that_waits_for_evidence_is_not_lifted_by_the_server() -> None:
    rollout = make_running()
    rollouts.pause_rollout(rollout_id=rollout.pk, actor="system", kind="no_evidence")
    rollouts.pause_rollout(rollout_id=rollout.pk, actor="ada")
    rollouts.pause_rollout(rollout_id=rollout.pk, actor="system", kind="no_evidence")
    rollout.refresh_from_db()
    assert rollout.pause_kind == "person"


@pytest.mark.parametrize("state", ["running", "paused", "aborting", "completed", "draft"])
def test_a_reason_can_be_added_afterwards(ada: Client, state: str) -> None:
    rollout = make_running()
    Rollout.objects.update(state=state)
    ada.post(page("rollout_step", rollout.pk, "note"), {"reason": "smoke in hall 3"})
    rollout.refresh_from_db()
    assert (rollout.state, rollout.reason) == (state, "smoke in hall 3")
    assert rollout.events.latest("id").action == "note"


def test_the_abort_button_says_what_it_touches(ada: Client) -> None:
    rollout = make_running()
    text = ada.get(page("rollout_change", rollout.pk)).content.decode()
    assert "Abort: 4 devices go back to" in text


def test_several_are_paused_at_once_and_aborted_after_one_look(ada: Client) -> None:
    rollout = make_running()
    chosen = {"_selected_action": [rollout.pk]}
    ada.post(page("rollout_changelist"), {**chosen, "action": "pause_selected"})
    rollout.refresh_from_db()
    assert rollout.state == "paused"
    ada.post(page("rollout_changelist"), {**chosen, "action": "abort_selected"})
    rollout.refresh_from_db()
    assert rollout.state == "paused"
    ada.post(page("rollout_changelist"), {**chosen, "action": "abort_selected", "confirmed": "1"})
    rollout.refresh_from_db()
    assert rollout.state == "aborting"


def test_every_state_can_be_stopped_or_is_over() -> None:
    for state in Rollout.State.values:
        assert is_allowed("abort", state) != (state in Rollout.TERMINAL_STATES)
