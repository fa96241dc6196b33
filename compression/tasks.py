"""Background work of compression: ids in, one service call, safe to run twice."""

from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.utils import timezone

from compression.services import queue, running
from compression.worker.machine_slots import job_slot
from compression.worker.step_cache import drop_steps

STEP_LIFETIME = timedelta(days=30)


def send_job(job_id: UUID) -> None:
    """Names a queued job to the workers; called once its row is committed."""
    queue.mark_sent([job_id])
    run_job.delay(str(job_id))


# The recipe's own wall limit ends the child; these only end a task that hangs beyond any of them.
@shared_task(soft_time_limit=86_400 + 600, time_limit=86_400 + 900)
def run_job(job_id: str) -> None:
    """Runs a queued job to its end, then names the one that has waited longest.

    Where this machine runs as many jobs as it may, the job stays queued: whichever job ends here
    next names it again, and so does the sweep.
    """
    with job_slot() as slot:
        if slot is None:
            queue.mark_unsent(UUID(job_id))
            return
        running.run_job(job_id=UUID(job_id), slot=slot)
    oldest = queue.take_oldest()
    if oldest is not None:
        run_job.delay(str(oldest))


@shared_task(soft_time_limit=60, time_limit=90)
def sweep_jobs() -> int:
    """Requeues lost jobs, sends those whose message was lost, and clears what is left behind."""
    queue.requeue_lost_jobs()
    ids = queue.take_unsent()
    for job_id in ids:
        run_job.delay(str(job_id))
    queue.clear_abandoned_scratch()
    drop_steps(unused_since=timezone.now() - STEP_LIFETIME)
    return len(ids)
