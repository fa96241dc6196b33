"""A rollout with its canaries and its control, for tests of evidence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from django.utils import timezone

from fleet.models import Deployment, Gate, GateEvaluation, Rollout, RolloutStage
from ingest.rules.windows import WindowCounts
from tests.factories.ingest import make_device, make_release, make_window

EVEN = [0.1] * 10
SKEWED = [0.73] + [0.03] * 9
HOUR = timedelta(hours=1)
NOW = timezone.now()
#: The stage has run for two windows.
BEGAN = datetime.fromtimestamp(NOW.timestamp() // 3600 * 3600, UTC) - 2 * HOUR


def make_canary_rollout() -> Rollout:
    """A rollout at its first stage with three gates; nothing has reported yet."""
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
    """Classes drawn by `shares`, one confidence, no error."""
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
    """Metric to its newest answer."""
    return {
        row.gate.metric: row for row in GateEvaluation.objects.select_related("gate").order_by("id")
    }
