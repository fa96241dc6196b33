"""The queue of jobs: what is waiting, in which order, and what became of silent workers."""

import logging
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from compression.models import Job
from compression.states import JobState
from compression.worker.scratch import remove_abandoned

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
#: A message is given this long to arrive before another is sent.
RESEND_NEW_AFTER = timedelta(seconds=30)
RESEND_AFTER = timedelta(minutes=5)
MAX_SENT_AT_ONCE = 100


@transaction.atomic
def requeue_lost_jobs() -> int:
    """Puts jobs whose worker went silent back in the queue, or fails them after three attempts.

    They keep their place in the queue: it is ordered by when a job was made.
    """
    now = timezone.now()
    lost = Job.objects.lost(now - timedelta(seconds=settings.AVIARY_JOB_LOST_SECONDS))
    failed = lost.filter(attempts__gte=MAX_ATTEMPTS).update(
        state=JobState.FAILED,
        error=f"The worker was lost {MAX_ATTEMPTS} times.",
        finished_at=now,
        claim=None,
    )
    cancelled = lost.filter(is_cancel_requested=True).update(
        state=JobState.CANCELLED, finished_at=now, claim=None
    )
    requeued = lost.update(state=JobState.QUEUED, claim=None, sent_at=None, progress={})
    if failed or cancelled or requeued:
        logger.warning("lost jobs: requeued=%s failed=%s cancelled=%s", requeued, failed, cancelled)
    return requeued


def take_unsent() -> list[UUID]:
    """The waiting jobs that a message must be sent for, oldest first; they count as sent."""
    now = timezone.now()
    waiting = Job.objects.to_send(
        made_before=now - RESEND_NEW_AFTER, sent_before=now - RESEND_AFTER
    )
    ids = list(waiting.values_list("pk", flat=True)[:MAX_SENT_AT_ONCE])
    mark_sent(ids)
    return ids


def take_oldest() -> UUID | None:
    """The job that has waited longest; it counts as sent."""
    oldest = Job.objects.queued().order_by("created_at").values_list("pk", flat=True).first()
    if oldest is not None:
        mark_sent([oldest])
    return oldest


def mark_sent(ids: list[UUID]) -> None:
    """Notes that a message names these jobs."""
    Job.objects.filter(pk__in=ids).update(sent_at=timezone.now())


def mark_unsent(job_id: UUID) -> None:
    """Notes that the job's message was taken by a worker that could not run it."""
    Job.objects.queued().filter(pk=job_id).update(sent_at=None)


def clear_abandoned_scratch() -> int:
    """Removes what killed workers have left on this machine."""
    return remove_abandoned(list(Job.objects.running().values_list("claim", flat=True)))
