"""Evidence reaches the gate that asks for it."""

from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from fleet.models import Deployment, Gate, GateEvaluation, Rollout, RolloutStage
from ingest.rules.windows import WindowCounts
from ingest.services.evidence import push_all_evidence
from tests.factories.ingest import make_device, make_release, make_window

pytestmark = pytest.mark.django_db


@pytest.fixture
def rollout():
    stable, target = make_release(), make_release(version="2.0.0")
    deployment = Deployment.objects.create(
        name="line", model=stable.version.model, stable_version=stable.version
    )
    now = timezone.now()
    row = Rollout.objects.create(
        deployment=deployment,
        target_version=target.version,
        previous_version=stable.version,
        salt="s",
        state=Rollout.State.RUNNING,
        started_at=now - timedelta(hours=2),
    )
    RolloutStage.objects.create(
        rollout=row, index=0, percent=20, started_at=now - timedelta(hours=2)
    )
    for metric in ("prediction_psi", "confidence_drop", "error_rate"):
        Gate.objects.create(rollout=row, metric=metric, threshold=0.1)
    return row


def report(rollout, canary_shares):
    stable = rollout.previous_version.variants.get()
    target = rollout.target_version.variants.get()
    start = timezone.now() - timedelta(hours=1)
    for index in range(10):
        is_canary = index < 4
        shares = canary_shares if is_canary else [0.1] * 10
        classes = np.random.default_rng(index).multinomial(500, shares).tolist()
        counts = WindowCounts(
            n=500, classes=[*classes, 0], confidence_n=500, confidence=[0] * 60 + [500, 0, 0, 0]
        )
        variant = target if is_canary else stable
        make_window(
            make_device(f"edge-{index}", variant),
            variant,
            start,
            counts,
            cohort="canary" if is_canary else "control",
        )


def verdicts():
    return {row.gate.metric: row for row in GateEvaluation.objects.select_related("gate")}


def test_a_canary_like_its_control_passes(rollout):
    report(rollout, [0.1] * 10)
    assert push_all_evidence(now=timezone.now()) == 1
    found = verdicts()
    assert {row.verdict for row in found.values()} == {"pass"}
    assert found["prediction_psi"].devices == 4 and found["prediction_psi"].samples == 2000


def test_a_canary_that_predicts_otherwise_fails_its_gate(rollout):
    report(rollout, [0.55] + [0.05] * 9)
    push_all_evidence(now=timezone.now())
    psi = verdicts()["prediction_psi"]
    assert psi.verdict == "fail" and psi.value > psi.details["lower"] > 0.1


def test_a_silent_canary_gives_no_data_rather_than_a_pass(rollout):
    push_all_evidence(now=timezone.now())
    assert {row.verdict for row in verdicts().values()} == {"no_data"}


def test_windows_before_the_stage_say_nothing(rollout):
    report(rollout, [0.1] * 10)
    RolloutStage.objects.update(started_at=timezone.now() + timedelta(hours=1))
    push_all_evidence(now=timezone.now())
    assert verdicts()["prediction_psi"].verdict == "no_data"
