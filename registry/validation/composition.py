"""Making data sets out of files that nobody has vouched for, in the limited child."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.stratification import draw_rows, hash_rows, make_strata, split_rows
from registry.validation.arrays import check_dataset, input_names, read_npz
from registry.validation.feeds import InputSpec, choose_specs, fit_dataset
from registry.validation.rules import RuleError

Arrays = dict[str, NDArray[Any]]


def compose_dataset(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Writes composed.npz, a stratified draw from the parts, and says what became of each part.

    Args:
        folder: holds part-0.npz, part-1.npz, … and, if rows are to be kept out, exclude.npz.
        job: `groups`, the number of each part's device; `inputs`, the model's inputs as in a
            signature; `rows`, how many are wanted; `min_rows`; `seed`; `max_array_bytes`.

    Raises:
        RuleError: too few usable rows are left.
    """
    excluded = _excluded_rows(folder, job)
    pool = _Pool(choose_specs(job["inputs"], job.get("input_batch_axes") or {}))
    budget = int(job["max_array_bytes"])
    for number, group in enumerate(job["groups"]):
        try:
            arrays = read_npz(folder / f"part-{number}.npz", budget)
            check_dataset(arrays)
            budget -= pool.add(arrays, group, excluded)
        except RuleError as error:
            pool.skipped.append({"part": number, "reason": str(error)[:200]})
    rows = len(pool.hashes)
    if rows < job["min_rows"]:
        raise RuleError(
            f"Expected at least {job['min_rows']} usable rows; got {rows} "
            f"({pool.repeated} repeated, {pool.held_out} in the evaluation set, "
            f"{len(pool.skipped)} of {len(job['groups'])} batches unusable)"
        )
    classes, confidence, groups = pool.answers()
    strata = make_strata(classes, confidence)
    chosen = draw_rows(strata, groups, job["rows"], job["seed"])
    composed = {name: np.concatenate(parts)[chosen] for name, parts in pool.inputs.items()}
    np.savez(folder / "composed.npz", **composed)  # type: ignore[arg-type]
    return {
        "rows": len(chosen),
        "pool_rows": rows,
        "repeated_rows": pool.repeated,
        "held_out_rows": pool.held_out,
        "devices": len(np.unique(groups[chosen])),
        "strata": len(np.unique(strata)),
        "classes": _counts(classes[chosen]),
        "skipped": pool.skipped[:100],
    }


def split_dataset(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Writes first.npz and second.npz, which have no row in common.

    Raises:
        RuleError: a part would be empty.
    """
    arrays = read_npz(folder / "dataset.npz", job["max_array_bytes"])
    check_dataset(arrays)
    inputs = [arrays[name] for name in input_names(arrays)]
    hashes = hash_rows([array for array in inputs if array.ndim])
    is_first = split_rows(hashes, arrays.get("y"), job["share"], job["seed"])
    counts = {"first": int(is_first.sum()), "second": int((~is_first).sum())}
    if not all(counts.values()):
        raise RuleError(f"One part would be empty: {counts}")
    for name, mask in (("first", is_first), ("second", ~is_first)):
        part = {key: value[mask] if value.ndim else value for key, value in arrays.items()}
        np.savez(folder / f"{name}.npz", **part)  # type: ignore[arg-type]
    return counts


class _Pool:
    """The usable, distinct rows of all parts."""

    def __init__(self, inputs: list[InputSpec]) -> None:
        self.wanted = inputs
        self.inputs: dict[str, list[NDArray[Any]]] = {}
        self.hashes: set[bytes] = set()
        self.skipped: list[dict[str, Any]] = []
        self.repeated = self.held_out = 0
        self._answers: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []

    def add(self, arrays: Arrays, group: int, excluded: set[bytes]) -> int:
        """Takes a part's new rows; returns the bytes they need."""
        found = _fit_inputs(arrays, self.wanted)
        keep = []
        for row, digest in enumerate(hash_rows(list(found.values()))):
            if digest in excluded:
                self.held_out += 1
            elif digest in self.hashes:
                self.repeated += 1
            else:
                self.hashes.add(digest)
                keep.append(row)
        if not keep:
            return 0
        rows = len(next(iter(found.values())))
        classes = arrays.get("class_id", np.full(rows, -1))[keep].astype(np.int64)
        confidence = arrays.get("confidence", np.full(rows, np.nan))[keep].astype(np.float64)
        self._answers.append((classes, confidence, np.full(len(keep), group, dtype=np.int64)))
        for name, values in found.items():
            self.inputs.setdefault(name, []).append(values[keep])
        return sum(parts[-1].nbytes for parts in self.inputs.values())

    def answers(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Class, confidence and device of each row."""
        classes, confidence, groups = zip(*self._answers, strict=True)
        return np.concatenate(classes), np.concatenate(confidence), np.concatenate(groups)


def _fit_inputs(arrays: Arrays, specs: list[InputSpec]) -> Arrays:
    """The arrays under the names a data set has, in the model's types, rows first.

    An input without rows is kept where the file has a value of it for each row.
    """
    rows = fit_dataset(specs, arrays)
    found = {}
    for spec in specs:
        values = rows.arrays[spec.name]
        if spec.batch_axis is None and values.ndim == len(spec.shape):
            continue
        found[spec.name] = values.astype(str) if values.dtype.kind == "O" else values
    return {"x": next(iter(found.values()))} if len(specs) == 1 else found


def _excluded_rows(folder: Path, job: dict[str, Any]) -> set[bytes]:
    path = folder / "exclude.npz"
    if not path.exists():
        return set()
    arrays = read_npz(path, job["max_array_bytes"])
    check_dataset(arrays)
    specs = choose_specs(job["inputs"], job.get("input_batch_axes") or {})
    return set(hash_rows(list(_fit_inputs(arrays, specs).values())))


def _counts(classes: NDArray[np.int64]) -> dict[str, int]:
    names, counts = np.unique(classes, return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
