"""Reads of compression."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from compression.models import Job
from compression.states import MEASURED_STATES

HISTORY_JOBS = 10
MAX_POSITIONS = 1000


def jobs_with_names() -> QuerySet[Job]:
    """Jobs with all that a list or a page of them shows, in one query."""
    return Job.objects.select_related(
        "version__model",
        "source_variant",
        "calibration_dataset__model",
        "evaluation_dataset__model",
        "result_variant",
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
    """One row per measured job of a version: size, accuracy and latency, with the front marked.

    A row is on the Pareto front when no other is at least as good in all three and better in one.
    """
    jobs = Job.objects.filter(version_id=version_id, state__in=MEASURED_STATES)
    rows = [_row(job) for job in jobs.order_by("created_at") if job.report]
    for row in rows:
        row["is_on_front"] = not any(_dominates(other, row) for other in rows)
    return rows


def _row(job: Job) -> dict[str, Any]:
    report = job.report or {}
    variant = report["variant"]
    return {
        "job": str(job.pk),
        "name": job.variant_name,
        "state": job.state,
        "bytes": variant["bytes"],
        "ratio": report["ratio"],
        "accuracy": variant["accuracy"] and variant["accuracy"]["value"],
        "accuracy_drop_points": report["accuracy_drop_points"],
        "agreement": variant["agreement"]["value"],
        "p50_ms": variant["latency"]["p50_ms"],
        "p95_ms": variant["latency"]["p95_ms"],
    }


def _dominates(other: dict[str, Any], row: dict[str, Any]) -> bool:
    mine, theirs = _costs(row), _costs(other)
    return all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine


def _costs(row: dict[str, Any]) -> tuple[float, float, float]:
    quality = row["agreement"] if row["accuracy"] is None else row["accuracy"]
    return row["bytes"], -quality, row["p50_ms"]
