"""What a plan can notice, and the plan that is proposed."""

from __future__ import annotations

import pytest
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from fleet.models import Rollout
from fleet.rules.plan_power import find_stage_power, propose_percents
from tests.factories.fleet import make_device, make_rollout
from tests.fleet.admin_pages import page

WORDS = {
    0: "It reaches no device, so it can notice nothing.",
    1: "notices a failure rate of 90% in nine of ten cases; for 20% it needs 11. "
    "Its gates cannot answer",
    5: "With 5 devices it notices a failure rate of 37% in nine of ten cases; for 20% it needs 11.",
    100: "With 100 devices it notices a failure rate of 10% in nine of ten cases.",
}


@pytest.mark.parametrize("devices", WORDS)
def test_a_stage_says_what_it_can_notice(devices: int) -> None:
    assert WORDS[devices] in find_stage_power(devices, 0.1).words


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2000), st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_power_has_an_answer_for_any_plan(devices: int, limit: float) -> None:
    power = find_stage_power(devices, limit)
    assert power.can_gates_decide == (devices >= 2) and power.words.endswith(".")


@given(st.integers(10, 10**6))
def test_the_proposed_plan_can_decide(devices: int) -> None:
    percents = propose_percents(devices)
    assert percents == sorted(set(percents)) and percents[-1] == 100
    assert 5 <= percents[0] <= 50 and percents[0] * devices >= 500


@pytest.mark.django_db
def test_the_form_proposes_by_the_devices_there_are(ada: Client) -> None:
    for _ in range(20):
        make_device()
    text = ada.get(page("rollout_add")).content.decode()
    assert 'name="stages-0-percent" value="25' in text or 'value="25.0"' in text
    assert "min_finished" not in text and "min_samples" not in text


def make_plan() -> Rollout:
    for _ in range(3):
        make_device()
    return make_rollout(stages=[{"percent": 100, "bake_seconds": 0}])


@pytest.mark.django_db
def test_the_page_says_what_each_stage_can_notice(ada: Client) -> None:
    text = ada.get(page("rollout_change", make_plan().pk)).content.decode()
    assert "With 3 devices it notices a failure rate of 54%" in text


@pytest.mark.django_db
def test_the_api_says_what_each_stage_can_notice(api: APIClient) -> None:
    (stage,) = api.get(f"/api/v1/rollouts/{make_plan().pk}/power/").json()
    assert (stage["stage"], stage["devices"], stage["noticed_failure_rate"]) == (1, 3, 0.54)
    assert stage["devices_for_twice_the_limit"] == 11
