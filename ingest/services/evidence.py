"""Tells the fleet how canaries do, compared with their control."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction

from fleet.selectors import ActiveRollout, active_rollouts
from fleet.services.evidence import submit_evidence
from ingest.models import Window
from ingest.rules.cohort_judgement import Evidence, compare_cohorts
from ingest.rules.windows import WindowCounts, window_start
from ingest.selectors.fleet_windows import sum_by_device
from ingest.selectors.releases import baseline_of

logger = logging.getLogger(__name__)
LOOK_BACK = timedelta(days=1)


@dataclass(frozen=True)
class Cohorts:
    """Counts per device of canaries, and of what they are compared with."""

    canary: dict[int, WindowCounts]
    control: dict[int, WindowCounts]
    against: str


def cohort_counts(*, model_id: int, target_version_id: int, since: datetime) -> Cohorts:
    """The canaries on the target since `since`, and the best control there is.

    Devices labelled as control; else those outside the canary; else, when the rollout has reached
    every device, what the devices did in the day before `since`.
    """
    rows = Window.objects.filter(version__model_id=model_id)
    current = rows.filter(start__gte=since)
    canary = sum_by_device(current.filter(version_id=target_version_id, cohort="canary").iterator())
    others = rows.exclude(version_id=target_version_id)
    beside = others.filter(start__gte=since).exclude(device_id__in=canary)
    before = others.filter(start__gte=since - LOOK_BACK, start__lt=since)
    for against, windows in (
        ("control", beside.filter(cohort="control")),
        ("stable", beside.filter(cohort="stable")),
        ("before", before),
    ):
        control = sum_by_device(windows.iterator())
        if control:
            return Cohorts(canary, control, against)
    return Cohorts(canary, {}, "baseline")


def push_evidence(*, rollout: ActiveRollout, now: datetime) -> list[Evidence]:
    """Submits what the windows since the stage began say about one active rollout.

    The window in which the stage began counts too: only canaries run the target in it.
    """
    began = rollout.stage_started_at or rollout.started_at
    if began is None:
        return []
    since = window_start(began.timestamp(), settings.AVIARY_WINDOW_SECONDS)
    cohorts = cohort_counts(
        model_id=rollout.model_id,
        target_version_id=rollout.target_version_id,
        since=datetime.fromtimestamp(since, UTC),
    )
    baseline = baseline_of(rollout.target_version_id, None)
    found = compare_cohorts(
        list(cohorts.canary.values()),
        list(cohorts.control.values()),
        baseline.profile if baseline else None,
        cohorts.against,
    )
    with transaction.atomic():
        for item in found:
            submit_evidence(
                rollout_id=rollout.rollout_id,
                stage_index=rollout.stage_index,
                metric=item.metric,
                value=item.value,
                control_value=item.control_value,
                devices=item.devices,
                samples=item.samples,
                details=item.details,
                at=now,
            )
    return found


def push_all_evidence(*, now: datetime) -> int:
    """Submits evidence for every active rollout; the number of rollouts served."""
    served = 0
    for rollout in active_rollouts():
        try:
            push_evidence(rollout=rollout, now=now)
            served += 1
        except Exception:
            # One rollout's trouble must not leave the others without evidence.
            logger.exception("no evidence for rollout %s", rollout.rollout_id)
    return served
