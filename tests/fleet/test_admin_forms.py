"""Forms of the fleet's pages, and the pages of devices: they act by services alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import Deployment, Device, JoinToken, Rollout
from registry.models import AuditEvent
from tests.factories.fleet import make_device, manifest_of
from tests.fleet.admin_pages import (
    make_deployment,
    make_running,
    make_version,
    page,
)

pytestmark = pytest.mark.django_db


# --- forms --------------------------------------------------------------------------------------


def rollout_form(deployment: Deployment, version: Any, percents: list[int]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "deployment": deployment.pk, "target_version": version.pk, "max_failure_rate": "0.1",
        "stages-TOTAL_FORMS": len(percents), "stages-INITIAL_FORMS": 0,
        "gates-TOTAL_FORMS": 2, "gates-INITIAL_FORMS": 0,
    }  # fmt: skip
    for index, percent in enumerate(percents):
        for name, value in {
            "percent": percent, "canary_selector": "", "bake_seconds": 5, "patience_seconds": 60,
            "success_threshold": "0.95", "advance": "auto",
        }.items():  # fmt: skip
            data[f"stages-{index}-{name}"] = value
    for index, threshold in enumerate(["0.2", ""]):
        for name, value in {
            "metric": ["prediction_psi", "error_rate"][index], "threshold": threshold,
            "action": "pause", "query": "", "max_age_seconds": 60,
        }.items():  # fmt: skip
            data[f"gates-{index}-{name}"] = value
    return data


def test_the_form_says_what_the_plan_can_notice_while_it_is_typed(ada: Client) -> None:
    deployment = make_deployment()
    for _ in range(12):
        make_device()
    form = ada.get(page("rollout_add")).content.decode()
    assert page("rollout_power") in form and 'hx-include="closest form"' in form
    data = rollout_form(deployment, make_version(deployment.model), [50, 100])
    text = ada.get(page("rollout_power"), data).content.decode()
    assert "The deployment has 12 accepted devices." in text
    assert "Stage 1: about 50 %. With 6 devices it notices a failure rate of" in text
    assert "Stage 2: about 100 %. With 12 devices" in text
    assert not Rollout.objects.exists()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({}, "Choose a deployment"),
        ({"deployment": "x"}, "Choose a deployment"),
        ({"deployment": "9" * 40}, "Choose a deployment"),
        ({"deployment": "OWN"}, "Type a percentage"),
        ({"deployment": "OWN", "max_failure_rate": "2"}, "Max failure rate: expected a share"),
        ({"deployment": "OWN", "stages-0-percent": "1e"}, "got &#x27;1e&#x27;"),
        ({"deployment": "OWN", "stages-0-percent": "nan"}, "expected a percentage above 0"),
        ({"deployment": "OWN", "stages-0-percent": "5"}, "can notice nothing"),
        ({"deployment": "OWN", "stages-0-canary_selector": "a=b"}, "by their labels"),
        ({"deployment": "OWN", "stages-0-percent": "5", "stages-0-success_threshold": "7"},
         "success threshold: expected a share"),
    ],
)  # fmt: skip
def test_what_is_half_typed_is_answered_too(ada: Client, typed: dict[str, str], words: str) -> None:
    own = str(make_deployment().pk)
    answer = ada.get(
        page("rollout_power"), {key: own if v == "OWN" else v for key, v in typed.items()}
    )
    assert answer.status_code == 200 and words in answer.content.decode()


def test_devices_are_counted_once_while_a_person_types(
    ada: Client, django_assert_max_num_queries: Any
) -> None:
    typed = {"deployment": str(make_deployment().pk), "stages-0-percent": "5"}
    ada.get(page("rollout_power"), typed)
    with django_assert_max_num_queries(3):  # session, user, deployment
        ada.get(page("rollout_power"), {**typed, "stages-0-percent": "50"})


def test_a_rollout_is_added_with_its_stages_and_the_gates_that_have_a_threshold(
    ada: Client,
) -> None:
    deployment = make_deployment()
    data = rollout_form(deployment, make_version(deployment.model), [10, 100])
    response = ada.post(page("rollout_add"), data)
    rollout = Rollout.objects.get()
    assert response.status_code == 302
    assert response["Location"] == page("rollout_change", rollout.pk)
    assert [stage.percent for stage in rollout.stages.all()] == [10, 100]
    assert [gate.metric for gate in rollout.gates.all()] == ["prediction_psi"]
    assert rollout.created_by is not None


def test_a_refusal_of_the_service_is_shown_on_the_form(ada: Client) -> None:
    deployment = make_deployment()
    data = rollout_form(deployment, make_version(deployment.model), [50])
    response = ada.post(page("rollout_add"), data)
    assert response.status_code == 200
    assert "Stages rise and end at 100 percent" in response.content.decode()
    assert not Rollout.objects.exists()


def test_the_secret_of_a_join_token_is_shown_once_and_stored_nowhere(ada: Client) -> None:
    later = timezone.now() + timedelta(days=1)
    response = ada.post(
        page("jointoken_add"),
        {
            "name": "hall 3", "labels": "site=lyon", "max_uses": 5,
            "expires_at_0": f"{later:%Y-%m-%d}", "expires_at_1": f"{later:%H:%M:%S}",
        },
    )  # fmt: skip
    token = JoinToken.objects.get()
    secret = response.context["secret"]
    assert secret in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    assert token.labels == {"site": "lyon"}
    assert secret not in ada.get(page("jointoken_change", token.pk)).content.decode()
    assert secret not in str(list(JoinToken.objects.values())) + str(
        list(AuditEvent.objects.values())
    )


def test_a_join_token_is_offered_for_a_day(ada: Client) -> None:
    form = ada.get(page("jointoken_add")).context["adminform"].form
    assert timedelta(hours=23) < form["expires_at"].value() - timezone.now() <= timedelta(days=1)


def test_a_deployment_is_added_changed_and_recorded(ada: Client) -> None:
    version = make_version()
    data = {
        "name": "cameras", "model": version.model.pk, "selector": "site=lyon|nice",
        "priority": 1, "stable_version": version.pk, "floor_sequence": 0,
    }  # fmt: skip
    assert ada.post(page("deployment_add"), data).status_code == 302
    deployment = Deployment.objects.get()
    assert deployment.selector == {"site": ["lyon", "nice"]}
    ada.post(page("deployment_change", deployment.pk), {**data, "priority": 7})
    deployment.refresh_from_db()
    assert deployment.priority == 7
    actions = AuditEvent.objects.filter(actor="ada").values_list("action", flat=True)
    assert {"deployment.created", "deployment.changed"} <= set(actions)


def test_a_deployments_version_is_not_changed_under_a_live_rollout(ada: Client) -> None:
    rollout = make_running(devices=0)
    deployment = rollout.deployment
    response = ada.post(
        page("deployment_change", deployment.pk),
        {
            "name": deployment.name, "selector": "", "priority": 0, "floor_sequence": 0,
            "stable_version": rollout.target_version_id,
        },
    )  # fmt: skip
    assert "A live rollout decides" in response.content.decode()
    deployment.refresh_from_db()
    assert deployment.stable_version_id == rollout.previous_version_id


def test_the_device_page_says_what_it_runs_and_why(ada: Client) -> None:
    deployment = make_deployment()
    device, _ = make_device()
    assert deployment.stable_version
    digest = manifest_of(deployment.stable_version)
    Device.objects.update(running={deployment.model.slug: digest})
    text = ada.get(page("device_change", device.pk)).content.decode()
    assert f"its stable version is {deployment.stable_version.version}" in text
    assert "as desired" in text


def test_a_search_by_label_finds_labels_and_attributes(ada: Client) -> None:
    make_device(device_id="in-the-lab")
    make_device(device_id="elsewhere", attributes={"site": "lyon"})
    text = ada.get(page("device_changelist"), {"q": "site=lyon"}).content.decode()
    assert "elsewhere" in text
    assert "in-the-lab" not in text


# --- devices ------------------------------------------------------------------------------------


def test_devices_are_accepted_from_the_list_and_refusals_are_told(ada: Client) -> None:
    pending, _ = make_device(status="pending")
    gone, _ = make_device()
    Device.objects.filter(pk=gone.pk).update(status="decommissioned")
    data = {"action": "accept_selected", "_selected_action": [pending.pk, gone.pk]}
    response = ada.post(page("device_changelist"), data, follow=True)
    pending.refresh_from_db()
    assert pending.status == "accepted"
    assert "cannot become accepted" in response.content.decode()


def test_suspending_asks_why(ada: Client) -> None:
    device, _ = make_device()
    ada.post(page("device_act", device.pk, "suspend"), {"reason": ""})
    device.refresh_from_db()
    assert device.status == "accepted"
    ada.post(page("device_act", device.pk, "suspend"), {"reason": "stolen"})
    device.refresh_from_db()
    assert device.status == "suspended"


def test_a_rotated_credential_is_shown_once_and_replaces_the_old(ada: Client) -> None:
    device, old = make_device()
    response = ada.post(page("device_act", device.pk, "rotate"))
    assert response.context["secret"] in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    assert response.context["secret"] != old
    assert device.credentials.filter(revoked_at__isnull=True).count() == 1


def test_labels_and_a_quarantine_are_changed_on_the_page(ada: Client) -> None:
    device, _ = make_device()
    ada.post(page("device_act", device.pk, "labels"), {"labels": "site=nice, line=3"})
    device.refresh_from_db()
    assert device.labels == {"site": "nice", "line": "3"}
    ada.post(page("device_act", device.pk, "labels"), {"labels": "nonsense"})
    device.refresh_from_db()
    assert device.labels == {"site": "nice", "line": "3"}
    device.quarantines.create(manifest_sha256="a" * 64, reason="failed 3 times")
    Device.objects.update(quarantined=["a" * 64])
    ada.post(page("device_act", device.pk, "clear_quarantine"))
    device.refresh_from_db()
    assert device.quarantined == []


def test_an_act_is_never_taken_by_get(ada: Client) -> None:
    device, _ = make_device()
    assert ada.get(page("device_act", device.pk, "rotate")).status_code == 405
