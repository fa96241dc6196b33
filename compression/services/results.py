"""What a passed job leaves in the registry."""

from pathlib import Path
from typing import Any

from django.conf import settings

from compression.measure.gates import has_judged_answers
from compression.models import Job
from compression.recipe.provenance import digest_json
from compression.recipe.recipe import parse_recipe
from compression.report.comparison import figure_by_set, saturating_sets
from registry.exceptions import ConflictError
from registry.models import FileRole, Variant
from registry.services.blobs import store_blob
from registry.services.inspection import PROCESSOR_GOLDEN_PATH
from registry.services.variants import attach_variant

# INT8 kernels differ between processors by a few quantization steps.
GOLDEN_TOLERANCE = {"atol": 0.25, "rtol": 0.1, "min_fraction": 0.9}
MAX_NAMES = 50


def attach_result(*, job: Job, path: Path, report: dict[str, Any]) -> Variant:
    """The variant made of a job's result: signed, with its figures and where it came from.

    A taken name gets a number. A result of random calibration can never be promoted, nor can one
    whose answers nothing judged, nor one that is no better than its source, nor what is
    made of any of them.
    """
    with path.open("rb") as stream:
        blob = store_blob(stream=stream, max_bytes=settings.AVIARY_MAX_UPLOAD_BYTES)
    # The same images go into the smaller model, through the same processor.
    processors = [
        (file.path, file.role, file.blob_id)
        for file in job.source_variant.files.all()
        if file.role == FileRole.PROCESSOR or file.path == PROCESSOR_GOLDEN_PATH
    ]
    is_promotable = (
        job.source_variant.is_promotable
        and not is_random(job)
        and has_judged_answers(parse_recipe(job.recipe).gates, report)
        and report["advantage"]["is_better"]
    )
    for number in range(1, MAX_NAMES + 1):
        name = job.variant_name if number == 1 else f"{job.variant_name}-{number}"
        try:
            return attach_variant(
                version=job.version,
                name=name,
                files=[("model.onnx", FileRole.MODEL, blob.sha256), *processors],
                requirements=require_isa(job.source_variant.requirements, report),
                metrics=summarise_report(report),
                provenance=describe_origin(job, report),
                derived_from=job.source_variant,
                is_promotable=is_promotable,
                actor=job.created_by or "compression",
                golden_tolerance=GOLDEN_TOLERANCE,
            )
        except ConflictError:
            if number == MAX_NAMES:
                raise
    raise AssertionError("unreachable")


def require_isa(requirements: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """The source's requirements, and the instruction sets that the variant's sums are right on.

    Where both name sets, a device needs one that is in both; where none is, one of the variant's.
    """
    needed = report.get("requires_isa") or []
    if not needed:
        return requirements
    shared = [name for name in needed if name in requirements.get("isa", needed)]
    return {**requirements, "isa": shared or needed}


def is_random(job: Job) -> bool:
    """Whether any pass looked at random calibration data."""
    return job.calibration_dataset_id is None and parse_recipe(job.recipe).needs_calibration


def summarise_report(report: dict[str, Any]) -> dict[str, Any]:
    """The figures a variant is shown and compared by."""
    variant = report["variant"]
    accuracy = variant["accuracy"]
    return {
        "size_bytes": variant["bytes"],
        "compressed_bytes": variant["compressed_bytes"],
        "ratio": report["ratio"],
        "accuracy": accuracy and accuracy["value"],
        "accuracy_interval": accuracy and [accuracy["low"], accuracy["high"]],
        "measured_on": report["environment"].get("cpu", ""),
        "accuracy_drop_points": report["accuracy_drop_points"],
        "accuracy_by_isa": figure_by_set(report, "accuracy"),
        "saturates_on": saturating_sets(report),
        "agreement": variant["agreement"]["value"],
        "divergence_nats": variant["divergence_nats"],
        "latency_ms": {name: variant["latency"][f"{name}_ms"] for name in ("p50", "p95", "p99")},
        "speedup": report["speedup"],
        "parameters": variant["parameters"],
        "macs": variant["macs"],
        "samples": report["samples"],
    }


def describe_origin(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """With what, from what and by which job the variant was made."""
    return {
        "kind": "compression",
        "job": str(job.pk),
        "preset": job.preset,
        "recipe": job.recipe,
        "recipe_sha256": digest_json(job.recipe),
        "identity": job.identity,
        "environment": report["environment"],
        "passes": [
            {key: note[key] for key in ("pass", "seconds", "bytes", "sha256")}
            for note in report["passes"]
        ],
    }
