"""Reads of compression."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from compression.measure.gates import has_judged_answers
from compression.models import Job
from compression.recipe.provenance import digest_json
from compression.recipe.recipe import parse_recipe
from compression.report.comparison import mark_front, rebase_rows, source_row, variant_row
from compression.states import JobState
from registry import hooks

HISTORY_JOBS = 10
MAX_POSITIONS = 1000
MAX_COMPARED = 200


def jobs_with_names() -> QuerySet[Job]:
    """Jobs with all that a list or a page of them shows, in one query."""
    return Job.objects.select_related(
        "version__model",
        "source_variant",
        "calibration_dataset__model",
        "evaluation_dataset__model",
        "result_variant",
        "rerun_of",
    )


def step_history(job: Job) -> list[dict[str, float]]:
    """Seconds by step of the last measured jobs on the same version."""
    rows = (
        Job.objects.measured()
        .filter(version_id=job.version_id)
        .order_by("-created_at")
        .values_list("report__passes", "report__evaluation_seconds")[:HISTORY_JOBS]
    )
    history = []
    for passes, evaluation_seconds in rows:
        seconds = {note["pass"]: float(note["seconds"]) for note in passes or []}
        if evaluation_seconds is not None:
            seconds["evaluate"] = float(evaluation_seconds)
        history.append(seconds)
    return history


def queue_positions() -> dict[UUID, int]:
    """How many queued jobs come before each queued one, by when they were made."""
    waiting = Job.objects.queued().order_by("created_at").values_list("pk", flat=True)
    return {pk: position for position, pk in enumerate(waiting[:MAX_POSITIONS])}


def measured_variants(version_id: int) -> list[dict[str, Any]]:
    """FP32 and one row per measured job of a version, oldest first, with the front marked.

    Jobs that were run again stand once. Without a measured job the list is empty.
    """
    jobs = (
        Job.objects.measured()
        .filter(version_id=version_id, rerun_of=None)
        .select_related("result_variant", "source_variant")
        .defer("log", "progress")
        .order_by("-created_at")[:MAX_COMPARED]
    )
    newest_first = list(jobs)
    if not newest_first:
        return []
    tested = [job.result_variant for job in newest_first if job.result_variant]
    on_devices = hooks.device_results([*tested, *(job.source_variant for job in newest_first)])
    rows = [
        variant_row(
            job.report,
            on_devices=[result.words for result in on_devices.get(job.result_variant_id or 0, ())],
            name=job.result_variant.name if job.result_variant else job.variant_name,
            state=job.state,
            is_promotable=job.result_variant is not None and job.result_variant.is_promotable,
            why_not=_why_not(job),
            **_circumstances(job),
        )
        for job in reversed(newest_first)
    ]
    # FP32 as the newest job found it that started from it.
    first = min(job.source_variant_id for job in newest_first)
    newest = next(job for job in newest_first if job.source_variant_id == first)
    control = source_row(
        newest.report,
        name=newest.source_variant.name,
        state="source",
        is_promotable=newest.source_variant.is_promotable,
        why_not="",
        on_devices=[result.words for result in on_devices.get(newest.source_variant_id, ())],
        **{**_circumstances(newest), "sha256": newest.recipe["source"]["sha256"]},
    )
    return mark_front([control, *rebase_rows(control, rows)])


def results_on_devices(job: Job) -> list[str]:
    """What self-tests of the job's result came to, by class of devices; empty without a result."""
    variant = job.result_variant
    if variant is None:
        return []
    return [result.words for result in hooks.device_results([variant]).get(variant.pk, ())]


def _circumstances(job: Job) -> dict[str, Any]:
    data = job.recipe["data"]
    return {
        "source_name": job.source_variant.name,
        "threads": job.recipe["target"]["threads"],
        "batch": job.recipe["target"]["batch"],
        "source_sha256": job.recipe["source"]["sha256"],
        "recipe_sha256": digest_json(job.recipe),
        "calibration_sha256": data["calibration"],
        "evaluation_sha256": data["evaluation"],
        "identity": job.identity,
        "measured_at": job.finished_at.isoformat() if job.finished_at else None,
        "job": str(job.pk),
    }


def _why_not(job: Job) -> str:
    """Why the result of a job can never be promoted; empty when it can."""
    report = job.report or {}
    if job.state == JobState.COLLAPSED:
        return "collapsed: " + ", ".join(report["variant"]["collapse_flags"])
    if job.state == JobState.FAILED_GATE:
        failed = [gate["sentence"] for gate in report["gates"] if not gate["passed"]]
        return "failed a gate: " + "; ".join(failed)
    if job.result_variant is None or job.result_variant.is_promotable:
        return ""
    if not job.source_variant.is_promotable:
        return f"made of {job.source_variant.name}, which cannot be promoted"
    if not has_judged_answers(parse_recipe(job.recipe).gates, report):
        return "nothing judged its answers: no labels, and no gate on agreement"
    if not (report.get("advantage") or {}).get("is_better", True):
        return "neither smaller nor faster than its source"
    return "calibrated on random data"
