"""Periodic work of the fleet; each task is idempotent and makes one service call."""

from celery import shared_task

from fleet.services import automation, polling


@shared_task(soft_time_limit=120, time_limit=180)
def tick_rollouts() -> int:
    """Judges every rollout under way."""
    return automation.tick_rollouts()


@shared_task(soft_time_limit=120, time_limit=180)
def flush_polls() -> int:
    """Writes what polls left in the cache."""
    return polling.flush_polls()
