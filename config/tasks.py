"""Periodic work that concerns every app."""

from celery import shared_task
from django.utils import timezone

from config import background
from config.retention.pruning import prune_tables

PRUNE_SECONDS = 60.0


@shared_task(soft_time_limit=110, time_limit=130)
def prune() -> dict[str, int]:
    """Removes what is older than it is kept, for a minute; the next run goes on."""
    return prune_tables(now=timezone.now(), seconds=PRUNE_SECONDS)


@shared_task(soft_time_limit=20, time_limit=30)
def note_tick() -> None:
    """Notes that the clock and a worker run, for `readyz` and the metrics."""
    background.note_tick()
