"""Metrics of one's own: pushed by the API, each value once."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from fleet.models import Gate, GateEvaluation, Rollout
from fleet.services import rollouts
from tests.factories.fleet import make_rollout

pytestmark = pytest.mark.django_db
BODY = {"metric": "own:rejects", "key": "10:00", "value": 0.01, "devices": 12}


@pytest.fixture
def rollout() -> Rollout:
    gate = {"metric": "own:rejects", "threshold": 0.02, "action": "abort"}
    row = make_rollout(gates=[gate])
    return rollouts.start_rollout(rollout_id=row.pk, actor="tester")


def push(api: APIClient, rollout: Rollout, **over: Any) -> Any:
    return api.post(f"/api/v1/rollouts/{rollout.pk}/evidence/", {**BODY, **over}, format="json")


ANSWERS = {
    "an exact value below": ({}, "pass"),
    "an exact value above": ({"value": 0.03}, "fail"),
    "an interval below": ({"lower": 0.0, "upper": 0.02}, "pass"),
    "an interval that holds the threshold": ({"lower": 0.0, "upper": 0.03}, "inconclusive"),
    "an interval above": ({"value": 0.05, "lower": 0.03, "upper": 0.06}, "fail"),
    "an interval that is open above": ({"lower": 0.0}, "inconclusive"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_value_is_judged(api: APIClient, rollout: Rollout, name: str) -> None:
    over, verdict = ANSWERS[name]
    response = push(api, rollout, **over)
    assert response.status_code == 201
    assert response.json()["verdict"] == verdict == GateEvaluation.objects.get().verdict


def test_the_same_key_again_changes_nothing(api: APIClient, rollout: Rollout) -> None:
    first = push(api, rollout).json()
    again = push(api, rollout, value=0.9)
    assert again.status_code == 200 and again.json() == first
    assert GateEvaluation.objects.count() == 1
    assert push(api, rollout, key="10:01").status_code == 201


REFUSED: dict[str, dict[str, Any]] = {
    "a metric that is measured here": {"metric": "error_rate"},
    "a name that is none": {"metric": "own:Rejects per day"},
    "a metric without a gate": {"metric": "own:other"},
    "no number": {"value": "many"},
    "not a number": {"value": "NaN"},
    "infinity": {"value": "Infinity"},
    "an interval beside its value": {"lower": 0.02, "upper": 0.03},
    "an unknown field": {"verdict": "pass"},
    "fewer than no devices": {"devices": -1},
    "a key of nothing": {"key": ""},
    "a key without end": {"key": "k" * 65},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_makes_no_sense_is_400_and_leaves_nothing(
    api: APIClient, rollout: Rollout, name: str
) -> None:
    assert push(api, rollout, **REFUSED[name]).status_code == 400
    assert not GateEvaluation.objects.exists()


def test_a_rollout_that_is_not_under_way_takes_none(api: APIClient) -> None:
    draft = make_rollout(gates=[{"metric": "own:rejects", "threshold": 0.02}])
    assert push(api, draft).status_code == 409
    assert not GateEvaluation.objects.exists()


def test_a_reader_and_a_stranger_push_nothing(reader: APIClient, rollout: Rollout) -> None:
    assert push(reader, rollout).status_code == 403
    assert push(APIClient(), rollout).status_code == 401
    assert not GateEvaluation.objects.exists()


GATES: dict[str, dict[str, Any]] = {
    "a metric that is none": {"metric": "predicton_psi", "threshold": 0.1},
    "a margin of nothing": {"metric": "error_rate", "threshold": 0},
    "a ratio that allows no change": {"metric": "latency_p95_ratio", "threshold": 1.0},
    "a threshold that is no number": {"metric": "error_rate", "threshold": float("nan")},
    "a query for what is measured here": {
        "metric": "error_rate", "threshold": 0.1, "query": "up",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", GATES)
def test_a_gate_that_could_not_decide_is_refused(name: str) -> None:
    from fleet.exceptions import InvalidFleetInputError

    with pytest.raises(InvalidFleetInputError):
        make_rollout(gates=[GATES[name]])
    assert not Gate.objects.exists()
