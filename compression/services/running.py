"""One job from claim to verdict, with the passes run in a child process."""

import json
import logging
import time
import uuid
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F
from django.utils import timezone

from compression.models import Job
from compression.recipe.passes import PASSES
from compression.recipe.provenance import step_keys
from compression.recipe.recipe import parse_recipe
from compression.selectors import step_history
from compression.services.reruns import compare_rerun
from compression.services.results import attach_result
from compression.states import JobState
from compression.worker.progress import StepClock
from compression.worker.scratch import make_scratch, remove_scratch
from compression.worker.step_cache import load_steps, save_step
from compression.worker.supervisor import Outcome, supervise
from registry.exceptions import AviaryError, UnavailableError
from registry.models import FileRole
from registry.services.audit import record_event
from registry.services.blobs import copy_blob
from registry.services.contracts import contract_of_variants

logger = logging.getLogger(__name__)

MAX_LOG_EVENTS = 200
SOURCE_FOLDER = "source"


def run_job(*, job_id: UUID, slot: int = 0) -> Job:
    """The job as it ended. Does nothing when another worker has it or it has ended.

    A worker that is killed leaves the job `running`; the sweep puts it back, and the next run
    continues from the passes whose results are cached.

    Args:
        slot: which of the jobs that run on this machine at once it is; spreads them over the CPUs.
    """
    claim = uuid.uuid4()
    now = timezone.now()
    # Claimed by a conditional update that must change exactly one row.
    claimed = (
        Job.objects.queued()
        .filter(pk=job_id)
        .update(
            state=JobState.RUNNING,
            claim=claim,
            attempts=F("attempts") + 1,
            started_at=now,
            heartbeat_at=now,
        )
    )
    job = Job.objects.select_related(
        "version__model",
        "source_variant",
        "calibration_dataset",
        "evaluation_dataset",
        "rerun_of",
    ).get(pk=job_id)
    if claimed != 1:
        return job
    logger.info("job %s started, attempt %s", job.pk, job.attempts)
    scratch = make_scratch(claim)
    try:
        run = _Run(job, claim, scratch, slot)
        outcome = run.execute()
        return _finish(job, claim, scratch, outcome)
    except (UnavailableError, OperationalError, InterfaceError) as error:
        # The store's trouble and not the job's: it waits for its turn again, as an attempt less.
        logger.warning("job %s is queued again: %s", job.pk, error)
        Job.objects.filter(pk=job.pk, claim=claim).update(
            state=JobState.QUEUED,
            claim=None,
            sent_at=None,
            progress={},
            attempts=F("attempts") - 1,
        )
        job.refresh_from_db()
        return job
    except AviaryError as error:
        logger.warning("job %s failed: %s", job.pk, error)
        return _close(job, claim, JobState.FAILED, error=f"{error.code}: {error}")
    except Exception as error:
        logger.exception("job %s failed", job.pk)
        return _close(job, claim, JobState.FAILED, error=f"{type(error).__name__}: {error}")
    finally:
        remove_scratch(scratch)


class _Run:
    """The supervised part: what the child is given, and what becomes of its events."""

    def __init__(self, job: Job, claim: UUID, scratch: Path, slot: int) -> None:
        self.job, self.claim, self.scratch, self.slot = job, claim, scratch, slot
        self.recipe = parse_recipe(job.recipe)
        data = job.recipe["data"]
        self.contract = contract_of_variants(job.version)
        self.keys = step_keys(
            job.recipe["source"]["sha256"],
            self.recipe,
            data["calibration"],
            contract=self.contract,
            # A rerun must do the work; its own steps still outlive a killed worker.
            realm="" if job.rerun_of_id is None else str(job.pk),
        )
        names = [step.name for step in self.recipe.passes]
        budget = float(self.recipe.search.seconds)
        self.clock = StepClock(
            names,
            step_history(job),
            {name: budget for name in names if PASSES[name].is_budgeted},
        )
        self.log: list[dict[str, Any]] = []
        self.last_heartbeat = 0.0
        self.is_lost = False

    def execute(self) -> Outcome:
        self._write_order()
        limits = self.recipe.limits
        return supervise(
            self.scratch,
            wall_seconds=limits.wall_seconds,
            threads=limits.threads,
            slot=self.slot,
            on_event=self._on_event,
            should_stop=self._should_stop,
        )

    def _write_order(self) -> None:
        folder = self.scratch / SOURCE_FOLDER
        folder.mkdir()
        source = ""
        for file in self.job.source_variant.files.filter(
            role__in=[FileRole.MODEL, FileRole.EXTERNAL_DATA]
        ):
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_blob(sha256=file.blob_id, target=target)
            if file.role == FileRole.MODEL:
                source = f"{SOURCE_FOLDER}/{file.path}"
        calibration = None
        if self.job.calibration_dataset is not None:
            calibration = "calibration.npz"
            sha256 = self.job.calibration_dataset.blob_id
            copy_blob(sha256=sha256, target=self.scratch / calibration)
        copy_blob(
            sha256=self.job.evaluation_dataset.blob_id, target=self.scratch / "evaluation.npz"
        )
        order = {
            "recipe": self.job.recipe,
            "limits": self.job.recipe["limits"],
            "source": source,
            "calibration": calibration,
            "evaluation": "evaluation.npz",
            "contract": self.contract,
            "registered_accuracy": self._registered_accuracy(),
            "done": load_steps(self.keys, self.scratch),
        }
        (self.scratch / "order.json").write_text(json.dumps(order))

    def _registered_accuracy(self) -> float | None:
        """FP32 accuracy of the source, if it was measured on the job's own evaluation set."""
        job = self.job
        if job.version.dataset_id != job.evaluation_dataset_id:
            return None
        registered = job.source_variant.metrics.get("accuracy")
        return registered if isinstance(registered, float) else None

    def _on_event(self, event: dict[str, Any]) -> None:
        is_step = event["event"] == "step"
        if is_step and event["state"] == "done":
            path = (self.scratch / event["file"]).resolve()
            if path.is_relative_to(self.scratch.resolve()):
                save_step(self.keys[event["index"]], path, event["notes"])
        if is_step:
            self.log = [*self.log, {**event, "at": timezone.now().isoformat()}][-MAX_LOG_EVENTS:]
        self._touch(progress=self.clock.note(event, timezone.now()), log=self.log)

    def _should_stop(self) -> bool:
        """True when a person cancelled, or when another worker has taken the job over."""
        if time.monotonic() - self.last_heartbeat >= settings.AVIARY_JOB_HEARTBEAT_SECONDS:
            self._touch()
        row = Job.objects.filter(pk=self.job.pk, claim=self.claim).values_list(
            "is_cancel_requested", flat=True
        )
        answer = list(row)
        self.is_lost = not answer
        return self.is_lost or answer[0]

    def _touch(self, **values: Any) -> None:
        self.last_heartbeat = time.monotonic()
        Job.objects.filter(pk=self.job.pk, claim=self.claim).update(
            heartbeat_at=timezone.now(), **values
        )


def _finish(job: Job, claim: UUID, scratch: Path, outcome: Outcome) -> Job:
    if outcome.kind == "cancelled":
        return _close(job, claim, JobState.CANCELLED)
    if outcome.kind == "timed_out":
        return _close(job, claim, JobState.TIMED_OUT, error=outcome.message)
    if outcome.kind == "error" or outcome.report is None:
        return _close(job, claim, JobState.FAILED, error=f"{outcome.code}: {outcome.message}")
    report = outcome.report
    path = (scratch / report.pop("file")).resolve()
    if not path.is_relative_to(scratch.resolve()):
        return _close(job, claim, JobState.FAILED, error="The child named a file outside.")
    if job.rerun_of is not None:
        report["rerun"] = compare_rerun(job.rerun_of, report)
    state = JobState(report["outcome"])
    variant = None
    if state == JobState.PASSED:
        if not Job.objects.filter(pk=job.pk, claim=claim, is_cancel_requested=False).exists():
            return _close(job, claim, JobState.CANCELLED)
        variant = attach_result(job=job, path=path, report=report)
    return _close(job, claim, state, report=report, result_variant=variant)


@transaction.atomic
def _close(job: Job, claim: UUID, state: JobState, **values: Any) -> Job:
    """Ends the job, unless another worker has taken it over meanwhile."""
    changed = Job.objects.filter(pk=job.pk, claim=claim, state=JobState.RUNNING).update(
        state=state, finished_at=timezone.now(), claim=None, **values
    )
    logger.info("job %s ended %s%s", job.pk, state, "" if changed else " (held elsewhere)")
    if changed:
        record_event(
            actor="system",
            action="compression.ended",
            obj=job,
            summary=f"{job.variant_name} of {job.version} ended as {state}",
            details={"state": str(state), "error": str(values.get("error", ""))[:500]},
        )
    job.refresh_from_db()
    return job
