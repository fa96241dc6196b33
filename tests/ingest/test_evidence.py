"""Evidence reaches the gate that asks for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fleet.models import (
    Device,
    Gate,
    GateEvaluation,
    Installation,
    Rollout,
    RolloutStage,
    Telemetry,
)
from fleet.rules.gate_metrics import METRICS
from fleet.selectors import active_rollouts
from fleet.services.reconcile import tick_rollout
from ingest.models import Window
from ingest.rules.cohort_evidence import CONTROL, PAST, PAST_AND_CONTROL
from ingest.selectors.cohorts import read_cohorts
from ingest.services.evidence import push_all_evidence, push_evidence
from tests.factories.ingest import make_device, make_window
from tests.ingest.canaries import (
    BEGAN,
    EVEN,
    HOUR,
    NOW,
    SKEWED,
    answers,
    make_canary_rollout,
    make_counts,
    report,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def rollout() -> Rollout:
    return make_canary_rollout()


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


def say_telemetry(rollout: Rollout, *, rss_mb: float, temperature_c: float) -> None:
    """Reports before the rollout, and since; canaries have grown to what is given."""
    for index in range(12):
        device = Device.objects.get(device_id=f"edge-{index}")
        for minute in range(8):
            spread = 0.1 * ((index + minute) % 3)
            is_grown = index < 5
            for at, rss, temperature in (
                (BEGAN - timedelta(minutes=20 + minute), 100.0, 40.0),
                (
                    BEGAN + timedelta(minutes=90 + minute),
                    rss_mb if is_grown else 100.0,
                    temperature_c if is_grown else 40.0,
                ),
            ):
                row = Telemetry.objects.create(
                    device=device,
                    resources={
                        "process_rss_mb": rss + index + spread,
                        "temperature_c": temperature + index + spread,
                    },
                )
                Telemetry.objects.filter(pk=row.pk).update(received_at=at)


@pytest.mark.parametrize(
    ("rss_mb", "temperature_c", "verdict"), [(101, 40.5, "pass"), (180, 55, "fail")]
)
def test_memory_and_temperature_are_read_from_telemetry(
    rollout: Rollout, rss_mb: float, temperature_c: float, verdict: str
) -> None:
    for metric in ("memory_ratio", "temperature_rise"):
        Gate.objects.create(rollout=rollout, metric=metric, threshold=METRICS[metric].margin)
    report(rollout, EVEN)
    say_telemetry(rollout, rss_mb=rss_mb, temperature_c=temperature_c)
    push_all_evidence(now=NOW)
    found = answers()
    assert found["memory_ratio"].verdict == found["temperature_rise"].verdict == verdict
    assert found["memory_ratio"].details["reference"] == PAST_AND_CONTROL


def test_every_metric_of_the_table_has_somebody_who_measures_it(rollout: Rollout) -> None:
    Gate.objects.all().delete()
    for row in METRICS.values():
        Gate.objects.create(rollout=rollout, metric=row.name, threshold=row.margin)
    report(rollout, EVEN)
    say_telemetry(rollout, rss_mb=100, temperature_c=40)
    for window in Window.objects.all():
        counts = {**window.counts, "latency_n": window.n, "latency": {"60": window.n}}
        Window.objects.filter(pk=window.pk).update(counts=counts)
    canaries = Installation.objects.filter(version=rollout.target_version)
    canaries.update(rollout=rollout, updated_at=BEGAN)
    push_all_evidence(now=NOW)
    tick_rollout(rollout_id=rollout.pk, now=timezone.now())
    found = answers()
    assert set(found) == set(METRICS)
    assert [name for name, row in found.items() if row.value is None] == []
