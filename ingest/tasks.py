"""Periodic work; every task is idempotent and takes no argument."""

import logging

from celery import shared_task
from django.utils import timezone

from ingest.services import aggregation, causes, evaluation, evidence

logger = logging.getLogger(__name__)
BATCHES_PER_TRANSACTION = 100
TRANSACTIONS_PER_RUN = 100


@shared_task(soft_time_limit=90, time_limit=120)
def aggregate_inbox() -> int:
    """Counts pending batches into windows until none is left."""
    total = 0
    for _ in range(TRANSACTIONS_PER_RUN):
        done = aggregation.aggregate_batches(limit=BATCHES_PER_TRANSACTION)
        total += done
        if done < BATCHES_PER_TRANSACTION:
            break
    return total


@shared_task(soft_time_limit=110, time_limit=150)
def evaluate_drift() -> int:
    """Judges every model whose next period is complete, and serves evidence to rollouts."""
    now = timezone.now()
    total = 0
    for model_id in evaluation.models_to_judge(now):
        try:
            total += evaluation.evaluate_model(model_id=model_id, now=now)
        except Exception:
            # One model's trouble must not leave the others unjudged.
            logger.exception("drift of model %s was not judged", model_id)
    causes.close_unused_incidents(now=now)
    evidence.push_all_evidence(now=now)
    return total
