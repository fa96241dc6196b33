"""Periodic work; every task is idempotent and takes no argument."""

import logging
from time import monotonic

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from ingest.services import aggregation, causes, evaluation, evidence, rollups, summaries

logger = logging.getLogger(__name__)
BATCHES_PER_TRANSACTION = 500
SUMMARIES_PER_TRANSACTION = 500
PARTS_PER_TRANSACTION = 1_000


@shared_task(soft_time_limit=90, time_limit=120)
def aggregate_inbox() -> int:
    """Counts pending batches into windows until none is left, or for one tick's time.

    The next tick goes on: a backlog holds one slot of a worker and never all of them.
    """
    total = 0
    ends_at = monotonic() + settings.AVIARY_TICK_SECONDS
    while True:
        done = aggregation.aggregate_batches(limit=BATCHES_PER_TRANSACTION)
        total += done
        if done < BATCHES_PER_TRANSACTION or monotonic() >= ends_at:
            return total


@shared_task(soft_time_limit=90, time_limit=120)
def count_summaries() -> int:
    """The same for what devices counted themselves."""
    total = 0
    ends_at = monotonic() + settings.AVIARY_TICK_SECONDS
    while True:
        done = summaries.count_summaries(limit=SUMMARIES_PER_TRANSACTION)
        total += done
        if done < SUMMARIES_PER_TRANSACTION or monotonic() >= ends_at:
            return total


@shared_task(soft_time_limit=50, time_limit=80)
def compact_rollups() -> int:
    """Puts the parts of roll-ups together until none is left, or for one tick's time."""
    total = 0
    ends_at = monotonic() + settings.AVIARY_TICK_SECONDS
    while True:
        done = rollups.compact_rollups(limit=PARTS_PER_TRANSACTION)
        total += done
        if done < PARTS_PER_TRANSACTION or monotonic() >= ends_at:
            return total


@shared_task(soft_time_limit=60, time_limit=90)
def push_evidence() -> None:
    """Gives each rollout under way what its gates look at."""
    evidence.push_all_evidence(now=timezone.now())


@shared_task(soft_time_limit=110, time_limit=150)
def evaluate_drift() -> int:
    """Judges every model whose next period is complete, for one tick's time; the next goes on."""
    now = timezone.now()
    total = 0
    ends_at = monotonic() + settings.AVIARY_TICK_SECONDS
    for model_id in evaluation.models_to_judge(now):
        if total and monotonic() >= ends_at:
            break
        try:
            # By itself, so that the judgement holds the model's row for as long as it must.
            evaluation.examine_devices_of_model(model_id=model_id, now=now)
            total += evaluation.evaluate_model(model_id=model_id, now=now)
        except Exception:
            # One model's trouble must not leave the others unjudged.
            logger.exception("drift of model %s was not judged", model_id)
    causes.close_unused_incidents(now=now)
    return total
