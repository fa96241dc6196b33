"""Evidence reaches the gate that asks for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fleet.models import Deployment, Gate, GateEvaluation, Rollout, RolloutStage
from fleet.selectors import active_rollouts
from ingest.rules.cohort_evidence import CONTROL, PAST, PAST_AND_CONTROL
from ingest.rules.windows import WindowCounts
from ingest.selectors.cohorts import read_cohorts
from ingest.services.evidence import push_all_evidence, push_evidence
from tests.factories.ingest import make_device, make_release, make_window

pytestmark = pytest.mark.django_db

EVEN = [0.1] * 10
SKEWED = [0.73] + [0.03] * 9
HOUR = timedelta(hours=1)
NOW = timezone.now()
#: The stage has run for two windows.
BEGAN = datetime.fromtimestamp(NOW.timestamp() // 3600 * 3600, UTC) - 2 * HOUR


@pytest.fixture
def rollout() -> Rollout:
    stable, target = make_release(), make_release(version="2.0.0")
    deployment = Deployment.objects.create(
        name="line", model=stable.version.model, stable_version=stable.version
    )
    row = Rollout.objects.create(
        deployment=deployment,
        target_version=target.version,
        previous_version=stable.version,
        salt="s",
        state=Rollout.State.RUNNING,
        started_at=BEGAN + timedelta(minutes=20),
    )
    RolloutStage.objects.create(
        rollout=row, index=0, percent=20, started_at=BEGAN + timedelta(minutes=20)
    )
    for metric, threshold in (
        ("prediction_psi", 0.1),
        ("confidence_drop", 0.1),
        ("error_rate", 0.05),
    ):
        Gate.objects.create(rollout=row, metric=metric, threshold=threshold)
    return row


def make_counts(seed: int, n: int, shares: list[float]) -> WindowCounts:
    classes = np.random.default_rng(seed).multinomial(n, shares).tolist()
    return WindowCounts(
        n=n, classes=[*classes, 0], confidence_n=n, confidence=[0] * 60 + [n, 0, 0, 0]
    )


def report(
    rollout: Rollout,
    shares: list[float],
    *,
    canaries: int = 5,
    controls: int = 7,
    has_past: bool = True,
    cohort: str = "control",
) -> None:
    """Windows of canaries that answer by `shares`, and of controls that answer evenly."""
    stable = rollout.previous_version.variants.get()
    target = rollout.target_version.variants.get()
    for index in range(canaries + controls):
        is_canary = index < canaries
        device = make_device(f"edge-{index}", target if is_canary else stable)
        if has_past:
            for hours in (2, 3):
                past = make_counts(index + 100 * hours, 1500, EVEN)
                make_window(device, stable, BEGAN - hours * HOUR, past)
        now = make_counts(index, 600, shares if is_canary else EVEN)
        variant, label = (target, "canary") if is_canary else (stable, cohort)
        make_window(device, variant, BEGAN + HOUR, now, cohort=label)


def answers() -> dict[str, GateEvaluation]:
    return {row.gate.metric: row for row in GateEvaluation.objects.select_related("gate")}


def cohorts_of(rollout: Rollout, **over: Any) -> Any:
    fields = {
        "model_id": rollout.deployment.model_id,
        "target_version_id": rollout.target_version_id,
        "previous_version_id": rollout.previous_version_id,
        "began": BEGAN,
        "since": BEGAN,
    }
    return read_cohorts(**{**fields, **over})


def test_a_canary_like_its_control_passes(rollout: Rollout) -> None:
    report(rollout, EVEN)
    assert push_all_evidence(now=NOW) == 1
    found = answers()
    assert {metric: row.verdict for metric, row in found.items()} == {
        "prediction_psi": "pass", "confidence_drop": "pass", "error_rate": "pass",
    }  # fmt: skip
    psi = found["prediction_psi"]
    assert (psi.devices, psi.samples) == (5, 3000)
    assert psi.details["reference"] == PAST_AND_CONTROL and psi.details["control_devices"] == 7


def test_a_canary_that_predicts_otherwise_fails_its_gate(rollout: Rollout) -> None:
    report(rollout, SKEWED)
    push_all_evidence(now=NOW)
    psi = answers()["prediction_psi"]
    assert psi.verdict == "fail" and psi.value > 0.1 and psi.details["lower"] > 0.1
    assert psi.details["failing_classes"] == [0]


def test_the_psi_is_looked_at_again_only_with_twice_the_records(rollout: Rollout) -> None:
    report(rollout, EVEN)
    push_all_evidence(now=NOW)
    push_all_evidence(now=NOW + timedelta(minutes=1))
    looks = [
        row.details["look"]["number"]
        for row in GateEvaluation.objects.filter(gate__metric="prediction_psi").order_by("id")
    ]
    assert looks == [1, 1]


def test_a_silent_canary_gives_no_data_rather_than_a_pass(rollout: Rollout) -> None:
    push_all_evidence(now=NOW)
    assert {row.verdict for row in answers().values()} == {"no_data"}


def test_a_single_canary_gives_no_data_however_much_it_reports(rollout: Rollout) -> None:
    report(rollout, EVEN, canaries=1)
    push_all_evidence(now=NOW)
    assert {row.verdict for row in answers().values()} == {"no_data"}


def test_windows_before_the_stage_are_the_past_and_not_the_stage(rollout: Rollout) -> None:
    report(rollout, SKEWED)
    later = NOW + 3 * HOUR
    RolloutStage.objects.update(started_at=later)
    push_all_evidence(now=later)
    assert answers()["prediction_psi"].verdict == "no_data"


def test_canary_and_control_are_told_apart_by_cohort_and_version(rollout: Rollout) -> None:
    report(rollout, EVEN, canaries=2, controls=10)
    make_window(
        make_device("edge-other"), rollout.previous_version.variants.get(), BEGAN,
        make_counts(1, 10, EVEN),
    )  # fmt: skip
    found = cohorts_of(rollout)
    assert (len(found.canary), len(found.control)) == (2, 10)
    assert all(item.after.n == 600 and item.before.n == 3000 for item in found.canary.values())


def test_while_the_labelled_control_is_small_the_others_stand_beside_it(rollout: Rollout) -> None:
    report(rollout, EVEN, controls=4, cohort="stable")
    assert len(cohorts_of(rollout).control) == 4


def test_the_past_ends_after_seven_days(rollout: Rollout) -> None:
    report(rollout, EVEN)
    found = cohorts_of(rollout, began=BEGAN + timedelta(days=8), since=BEGAN)
    assert all(item.before is None for item in found.canary.values())


def test_when_every_device_is_a_canary_its_own_past_is_the_reference(rollout: Rollout) -> None:
    report(rollout, EVEN, canaries=6, controls=0)
    push_all_evidence(now=NOW)
    assert answers()["error_rate"].details["reference"] == PAST
    assert answers()["error_rate"].verdict == "pass"


def test_without_a_past_the_control_is_the_reference(rollout: Rollout) -> None:
    report(rollout, EVEN, has_past=False)
    push_all_evidence(now=NOW)
    assert answers()["prediction_psi"].details["reference"] == CONTROL


def test_a_first_install_is_compared_with_its_baseline(rollout: Rollout) -> None:
    report(rollout, EVEN, controls=0, has_past=False)
    Rollout.objects.update(previous_version=None)
    push_all_evidence(now=NOW)
    found = answers()
    assert {row.details["reference"] for row in found.values()} == {"baseline"}


def test_queries_do_not_grow_with_the_devices(rollout: Rollout) -> None:
    def count() -> int:
        (active,) = active_rollouts()
        with CaptureQueriesContext(
            connection,
        ) as queries:
            push_evidence(rollout=active, now=NOW)
        return len(queries)

    report(rollout, EVEN, canaries=2, controls=2)
    few = count()
    stable = rollout.previous_version.variants.get()
    for index in range(30):
        device = make_device(f"more-{index}", stable)
        make_window(device, stable, BEGAN + HOUR, make_counts(index, 50, EVEN), cohort="control")
    assert count() <= few
