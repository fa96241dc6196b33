"""Jobs from their making to their cancelling; `running.py` holds what happens in between."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from compression.exceptions import JobStateError
from compression.models import Job
from compression.recipe.provenance import digest_json
from compression.services.orders import prepare_job
from compression.states import ACTIVE_STATES, MEASURED_STATES, JobState
from registry.models import Version
from registry.services.audit import record_event


@dataclass(frozen=True)
class Submission:
    """A job, and whether it was there already."""

    job: Job
    is_known: bool

    @property
    def is_answered(self) -> bool:
        """Whether the known job has its result already."""
        return self.is_known and not self.job.is_active

    @property
    def sentence(self) -> str:
        """What the person who asked is told."""
        if not self.is_known:
            return "The job is queued."
        if self.is_answered:
            return "Answered from cache: exactly this was measured before."
        return "Exactly this is being worked on already."


@transaction.atomic
def submit_job(*, version: Version, actor: str, **order: Any) -> Submission:
    """The job of an order: one that is active or measured and of equal identity, else a new one.

    Takes what `prepare_job` takes. The version's row is locked, so that two equal orders at the
    same time make one job.
    """
    Version.objects.select_for_update().get(pk=version.pk)
    job = prepare_job(version=version, actor=actor, **order)
    equal = Job.objects.filter(identity=job.identity, rerun_of=None, is_cancel_requested=False)
    known = equal.filter(state__in=(*ACTIVE_STATES, *MEASURED_STATES)).order_by("created_at")
    found = known.first()
    if found is None:
        return Submission(_queue(job), is_known=False)
    record_event(
        actor=actor,
        action="compression.answered",
        obj=found,
        summary=f"{found.variant_name} of {version} was asked for again and is {found.state}",
        details={"identity": found.identity},
    )
    return Submission(found, is_known=True)


@transaction.atomic
def create_job(*, version: Version, actor: str, **order: Any) -> Job:
    """A new queued job, whatever was measured before; takes what `prepare_job` takes."""
    return _queue(prepare_job(version=version, actor=actor, **order))


@transaction.atomic
def rerun_job(*, original: Job, actor: str) -> Job:
    """A queued job with the stored recipe of one that was measured, and its own step cache.

    It ends with `report["rerun"]`, which says whether the bytes are the same and, if not, which
    libraries differ.

    Raises:
        JobStateError: the original was not measured. DataSetUnusableError, RecipeInvalidError
    """
    if original.state not in MEASURED_STATES:
        raise JobStateError(f"Expected a job that was measured; this one is {original.state}.")
    job = prepare_job(
        version=original.version,
        source_variant=original.source_variant,
        calibration_dataset=original.calibration_dataset,
        evaluation_dataset=original.evaluation_dataset,
        recipe=original.recipe,
        variant_name=original.variant_name,
        actor=actor,
    )
    job.preset = original.preset
    job.rerun_of = original
    return _queue(job)


@transaction.atomic
def cancel_job(*, job_id: UUID, actor: str) -> Job:
    """The job, cancelled at once when queued, or asked to stop within seconds when running.

    Raises:
        JobStateError: it has ended already.
    """
    job = Job.objects.select_for_update().get(pk=job_id)
    if job.state not in ACTIVE_STATES:
        raise JobStateError(f"Only an active job can be cancelled; it is {job.state}.")
    if job.is_cancel_requested:
        return job
    job.is_cancel_requested = True
    if job.state == JobState.QUEUED:
        job.state = JobState.CANCELLED
        job.finished_at = timezone.now()
    job.save(update_fields=["is_cancel_requested", "state", "finished_at"])
    record_event(
        actor=actor,
        action="compression.cancelled",
        obj=job,
        summary=f"{job.variant_name} of {job.version} was cancelled",
        details={},
    )
    return job


def _queue(job: Job) -> Job:
    job.save(force_insert=True)
    record_event(
        actor=job.created_by or "system",
        action="compression.queued",
        obj=job,
        summary=f"{job.variant_name} of {job.version} was queued",
        details={
            "recipe_sha256": digest_json(job.recipe),
            "rerun_of": None if job.rerun_of_id is None else str(job.rerun_of_id),
        },
    )
    return job
