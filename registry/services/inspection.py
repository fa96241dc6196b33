"""Lays copies of blobs out in a private folder and has the limited child look at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from registry.exceptions import DataSetInvalidError, ModelFileInvalidError
from registry.manifest import check_path
from registry.models import Blob, FileRole, Model, Task
from registry.services import blobs
from registry.states import NEVER_RAN
from registry.validation.parent import RejectedError, run_child

GOLDEN_PATH = "golden.npz"
"""The model's own vectors, made here."""
PROCESSOR_GOLDEN_PATH = "processor-golden.npz"
"""Raw images and what the processor must answer: brought by whoever brings the processor."""
MAX_GOLDEN_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class FileSpec:
    """One file of a variant to be."""

    path: str
    role: str
    sha256: str


@dataclass(frozen=True)
class Inspection:
    """What the child found; `profile` needs a data set, `golden` inputs that run."""

    signature: dict[str, Any]
    contract: dict[str, Any]
    """Empty where it is not clear: then `question` asks."""
    question: str
    notes: list[str]
    """What a person should know of the checks, such as a reference on a part of the rows."""
    profile: dict[str, Any] | None
    golden: Blob | None


def inspect_files(
    *,
    model: Model,
    files: Sequence[FileSpec],
    contract_given: Mapping[str, Any],
    dataset_sha256: str | None,
    golden_inputs_sha256: str | None,
) -> Inspection:
    """Signature, profile and golden vectors of the files.

    Raises:
        ModelFileInvalidError: the model, or its processor, breaks a rule.
        ChildFailedError: it brought the child down, or past its limits.
    """
    with blobs.private_folder() as folder:
        root = folder / "files"
        root.mkdir()
        for file in files:
            # Fresh copies: no link of any kind can lead out of the folder.
            target = root / check_path(file.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            blobs.copy_blob(sha256=file.sha256, target=target)
        if dataset_sha256:
            blobs.copy_blob(sha256=dataset_sha256, target=folder / "dataset.npz")
        if golden_inputs_sha256:
            blobs.copy_blob(sha256=golden_inputs_sha256, target=folder / "golden_inputs.npz")
        try:
            result = run_child(
                folder,
                {
                    "task": "model",
                    "model_path": next(f.path for f in files if f.role == FileRole.MODEL),
                    "external_paths": [f.path for f in files if f.role == FileRole.EXTERNAL_DATA],
                    "processor_paths": [f.path for f in files if f.role == FileRole.PROCESSOR],
                    "processor_golden_paths": [
                        f.path for f in files if f.path == PROCESSOR_GOLDEN_PATH
                    ],
                    "max_model_bytes": settings.AVIARY_MAX_UPLOAD_BYTES,
                    "model_task": model.task,
                    "is_task_open": is_task_open(model),
                    "labels": model.labels,
                    "contract_given": dict(contract_given),
                },
            )
        except RejectedError as error:
            raise ModelFileInvalidError(str(error)) from error
        golden = None
        if result["has_golden"]:
            with (folder / "golden.npz").open("rb") as handle:
                golden = blobs.store_blob(stream=handle, max_bytes=MAX_GOLDEN_BYTES)
        return Inspection(
            signature=result["signature"],
            contract=result["contract"] or {},
            question=result["question"],
            notes=result["notes"],
            profile=result["profile"],
            golden=golden,
        )


def is_task_open(model: Model) -> bool:
    """True while the model has the task that a new one has by default, and neither labels nor a
    version that ever ran would speak for it."""
    return (
        model.task == Task.CLASSIFICATION
        and not model.labels
        and not model.versions.exclude(state__in=NEVER_RAN).exists()
    )


def inspect_dataset(*, sha256: str, classes: int | None) -> dict[str, Any]:
    """Rows and arrays of an npz whose labels are below `classes`. Raises DataSetInvalidError."""
    with blobs.private_folder() as folder:
        blobs.copy_blob(sha256=sha256, target=Path(folder) / "dataset.npz")
        try:
            return run_child(folder, {"task": "dataset", "classes": classes})
        except RejectedError as error:
            raise DataSetInvalidError(str(error)) from error
