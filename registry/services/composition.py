"""Data sets made of other data: a draw from many small files, and the two parts of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.exceptions import DataSetInvalidError, InvalidFieldError
from registry.models import DataSet, DataSetKind, Version, VersionState
from registry.services.blobs import copy_blob, private_folder
from registry.services.datasets import register_dataset
from registry.stratification import MAX_ROWS
from registry.validation.parent import RejectedError, run_child

MAX_PARTS = 5000
_RUNNABLE = (VersionState.READY, VersionState.APPROVED, VersionState.DEPRECATED)


@dataclass(frozen=True)
class Part:
    """One file of rows, and whom it came from."""

    sha256: str
    source: str


def compose_dataset(
    *,
    model_slug: str,
    name: str,
    kind: str,
    parts: Sequence[Part],
    rows: int,
    min_rows: int,
    seed: int,
    actor: str,
    keep_out: DataSet | None = None,
    provenance: dict[str, Any] | None = None,
) -> DataSet:
    """A data set of distinct rows drawn from the parts, stratified by class and confidence.

    Args:
        parts: 1 to 5,000; unusable ones are passed over and named in the provenance.
        rows: how many are wanted, at most 200,000; all usable rows when there are fewer.
        min_rows: fewer usable rows than this make no data set.
        keep_out: rows of this data set are left out, so that the two are disjoint.

    Raises:
        InvalidFieldError: a number out of range, or no version to take the inputs from.
        DataSetInvalidError: too few usable rows.
    """
    if not 1 <= len(parts) <= MAX_PARTS:
        raise InvalidFieldError(f"Expected 1 to {MAX_PARTS} batches of rows; got {len(parts)}")
    if not 1 <= min_rows <= rows <= MAX_ROWS:
        raise InvalidFieldError(
            f"Expected 1 ≤ min_rows ≤ rows ≤ {MAX_ROWS}; got min_rows {min_rows}, rows {rows}"
        )
    sources = sorted({part.source for part in parts})
    numbers = {source: number for number, source in enumerate(sources)}
    with private_folder() as folder:
        for number, part in enumerate(parts):
            copy_blob(sha256=part.sha256, target=folder / f"part-{number}.npz")
        if keep_out is not None:
            copy_blob(sha256=keep_out.blob_id, target=folder / "exclude.npz")
        job = {
            "task": "compose",
            "groups": [numbers[part.source] for part in parts],
            **_inputs_of(model_slug),
            "rows": rows,
            "min_rows": min_rows,
            "seed": seed,
        }
        try:
            result = run_child(folder, job)
        except RejectedError as error:
            raise DataSetInvalidError(str(error)) from error
        with (folder / "composed.npz").open("rb") as stream:
            return register_dataset(
                model_slug=model_slug,
                name=name,
                kind=kind,
                stream=stream,
                actor=actor,
                provenance={
                    **(provenance or {}),
                    **result,
                    "seed": seed,
                    "keep_out": keep_out.blob_id if keep_out else None,
                    "parts": len(parts),
                },
            )


def split_dataset(
    *,
    dataset: DataSet,
    share: float,
    names: tuple[str, str],
    kinds: tuple[str, str] = (DataSetKind.CALIBRATION, DataSetKind.EVALUATION),
    seed: int = 0,
    actor: str,
) -> tuple[DataSet, DataSet]:
    """Two data sets that share no row, each with the shares of the labels of the whole.

    Splitting again with the same seed, share and names gives the same two.

    Args:
        share: of the distinct rows that go to the first part, in (0, 1).

    Raises:
        InvalidFieldError, DataSetInvalidError, ConflictError: a name is taken by other rows.
    """
    if not 0.0 < share < 1.0:
        raise InvalidFieldError(f"share lies between 0 and 1; got {share}", {"share": share})
    if names[0] == names[1]:
        raise InvalidFieldError(f"The two parts need two names; both are {names[0]!r}")
    with private_folder() as folder:
        copy_blob(sha256=dataset.blob_id, target=folder / "dataset.npz")
        try:
            run_child(folder, {"task": "split", "share": share, "seed": seed})
        except RejectedError as error:
            raise DataSetInvalidError(str(error)) from error
        made = []
        for part, name, kind in zip(("first", "second"), names, kinds, strict=True):
            with (folder / f"{part}.npz").open("rb") as stream:
                made.append(
                    register_dataset(
                        model_slug=dataset.model.slug,
                        name=name,
                        kind=kind,
                        stream=stream,
                        actor=actor,
                        provenance={
                            "split_of": dataset.blob_id,
                            "part": part,
                            "share": share,
                            "seed": seed,
                        },
                    )
                )
    return made[0], made[1]


def _inputs_of(model_slug: str) -> dict[str, Any]:
    """The inputs of the model's newest version that can run, and the axes of their rows."""
    version = (
        Version.objects.filter(model__slug=model_slug, state__in=_RUNNABLE)
        .order_by("-sequence")
        .first()
    )
    if version is None:
        raise InvalidFieldError(f"{model_slug} has no validated version to take the inputs from")
    return {
        "inputs": version.signature["inputs"],
        "input_batch_axes": version.contract.get("input_batch_axes", {}),
    }
