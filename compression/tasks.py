"""Background work of compression: ids in, one service call, safe to run twice."""

from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.utils import timezone

from compression.models import Job
from compression.services import jobs, running
from compression.step_cache import drop_steps

STEP_LIFETIME = timedelta(days=30)
RESEND_AFTER = timedelta(seconds=30)


# The recipe's own wall limit ends the child; these only end a task that hangs beyond any of them.
@shared_task(soft_time_limit=86_400 + 600, time_limit=86_400 + 900)
def run_job(job_id: str) -> None:
    """Runs a queued job to its end."""
    running.run_job(job_id=UUID(job_id))


@shared_task(soft_time_limit=60, time_limit=90)
def sweep_jobs() -> int:
    """Requeues lost jobs, sends queued ones whose message was lost, and clears old step results."""
    jobs.requeue_lost_jobs()
    waiting = Job.objects.queued().filter(created_at__lt=timezone.now() - RESEND_AFTER)
    ids = list(waiting.order_by("created_at").values_list("pk", flat=True)[:100])
    for job_id in ids:
        run_job.delay(str(job_id))
    drop_steps(unused_since=timezone.now() - STEP_LIFETIME)
    return len(ids)
