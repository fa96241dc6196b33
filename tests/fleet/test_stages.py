"""Stages that reach nobody are refused or said before the start."""

from __future__ import annotations

import math
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from fleet.models import Rollout
from fleet.rules.overlaps import covers, may_meet
from fleet.rules.stages import find_stage_fault
from fleet.services import rollouts
from fleet.services.reconcile import tick_rollouts
from tests.factories.fleet import make_client, make_deployment, make_release, make_rollout

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "percent", [-1, -0.0001, 0.004, 0.0049, 0.005, 1e-9, 100.1, 1e300, math.nan, math.inf, 0]
)
def test_percentages_that_are_no_part_of_the_fleet_are_refused(percent: float) -> None:
    assert find_stage_fault([{"percent": percent}, {"percent": 100}]) is not None


@pytest.mark.parametrize("percent", [0.01, 0.0051, 1, 99.99, 100])
def test_percentages_of_at_least_a_bucket_are_taken(percent: float) -> None:
    assert find_stage_fault([{"percent": percent}, {"percent": 100}]) is None


@pytest.mark.parametrize("percent", [-1, 0.004, 101])
def test_the_api_refuses_them_and_leaves_nothing(api: APIClient, percent: float) -> None:
    deployment = make_deployment()
    body = {
        "deployment": deployment.pk,
        "target_version": make_release(deployment.model).version,
        "stages": [{"percent": percent}, {"percent": 100}],
    }
    response = api.post("/api/v1/rollouts/", body, format="json")
    assert response.status_code == 400, response.content
    assert not Rollout.objects.exists()


def draft(api: APIClient, deployment: Any, *stages: dict[str, Any]) -> dict[str, Any]:
    body = {
        "deployment": deployment.pk,
        "target_version": make_release(deployment.model).version,
        "stages": [*stages, {"percent": 100}],
    }
    response = api.post("/api/v1/rollouts/", body, format="json")
    assert response.status_code == 201, response.content
    made: dict[str, Any] = response.json()
    return made


def test_a_stage_that_reaches_nobody_is_said_before_the_start(api: APIClient) -> None:
    deployment = make_deployment()
    for _ in range(4):
        make_client()
    made = draft(api, deployment, {"canary_selector": {"site": ["moon"]}, "percent": 0})
    assert [row["devices"] for row in made["preview"]] == [0, 4]
    assert any(line.startswith("Stage 1 reaches no device of 4") for line in made["notices"])
    fine = draft(api, deployment, {"canary_selector": {"site": ["lab"]}, "percent": 0})
    assert fine["notices"] == []


def test_a_deployment_without_a_device_is_said_before_the_start(api: APIClient) -> None:
    deployment = make_deployment(selector={"site": ["nowhere"]})
    made = draft(api, deployment)
    assert made["notices"] == [
        "It reaches no device: none that is accepted belongs to the deployment."
    ]
    ada = Client()
    ada.force_login(User.objects.get(username="ada"))
    text = ada.get(f"/admin/fleet/rollout/{made['id']}/change/").content.decode()
    assert "It reaches no device" in text


def test_devices_of_a_stronger_deployment_are_not_reached(api: APIClient) -> None:
    deployment = make_deployment()
    make_client()
    make_deployment(stable_version=deployment.stable_version, priority=9, name="stronger")
    made = draft(api, deployment)
    assert made["preview"][0]["of"] == 0
    assert any("“stronger”" in line and "wins" in line for line in made["notices"])


def test_a_running_stage_that_reaches_nobody_says_so_when_it_pauses() -> None:
    deployment = make_deployment()
    make_client()
    stage = {"bake_seconds": 0, "patience_seconds": 0, "min_devices": 1}
    rollout = make_rollout(
        deployment=deployment,
        stages=[
            {**stage, "canary_selector": {"site": ["moon"]}, "percent": 0},
            {**stage, "percent": 100},
        ],
    )
    rollouts.start_rollout(rollout_id=rollout.pk, actor="tester")
    tick_rollouts()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "no_evidence")
    assert "the stage reaches no device" in rollout.reason


@pytest.mark.parametrize(
    ("one", "other", "meets", "first_covers"),
    [
        ({}, {}, True, True),
        ({}, {"a": ["1"]}, True, True),
        ({"a": ["1"]}, {}, True, False),
        ({"a": ["1"]}, {"a": ["2"]}, False, False),
        ({"a": ["1", "2"]}, {"a": ["2"]}, True, True),
        ({"a": ["1"]}, {"b": ["1"]}, True, False),
        ({"a": ["1"]}, {"a": ["1"], "b": ["1"]}, True, True),
    ],
)
def test_selectors_meet_and_cover(one: Any, other: Any, meets: bool, first_covers: bool) -> None:
    assert may_meet(one, other) == may_meet(other, one) == meets
    assert covers(one, other) == first_covers
