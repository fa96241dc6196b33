"""Periodic work of the fleet; each task is idempotent and makes one service call."""

from celery import shared_task
from django.utils import timezone

from fleet.services import poll_notes as polling
from fleet.services import reconcile as automation
from fleet.services import samples


@shared_task(soft_time_limit=120, time_limit=180)
def tick_rollouts() -> int:
    """Judges every rollout under way."""
    return automation.tick_rollouts()


@shared_task(soft_time_limit=120, time_limit=180)
def recount_rollouts() -> int:
    """Counts again what is dear to count of rollouts under way."""
    return automation.recount_rollouts()


@shared_task(soft_time_limit=120, time_limit=180)
def flush_polls() -> int:
    """Writes what polls left in the cache."""
    return polling.flush_polls()


@shared_task(soft_time_limit=150, time_limit=180)
def build_calibration(build_id: int) -> None:
    """Makes an ordered calibration set."""
    samples.build_calibration(build_id=build_id)


@shared_task(soft_time_limit=60, time_limit=90)
def sweep_samples() -> int:
    """Starts orders whose message was lost, and removes samples past their time."""
    waiting = samples.builds_to_start(now=timezone.now())
    for build_id in waiting:
        build_calibration.delay(build_id)
    samples.prune_samples(now=timezone.now())
    return len(waiting)
