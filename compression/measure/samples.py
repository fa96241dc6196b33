"""Calibration and evaluation samples: read without pickle, checked against the graph. Pure.

How rows become what a call is fed is the registry's rule, `registry.validation.feeds`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from registry.stratification import hash_rows
from registry.validation.feeds import InputSpec, Rows, choose_specs, draw_rows, fit_dataset
from registry.validation.rules import RuleError, extract_signature

MAX_ROWS = 2_000_000
Feed = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Samples:
    """Rows for a model, how they become calls of it, and how its outputs become rows again.

    Attributes:
        inputs: by name, rows first, each [N, ...]; of an input without rows, its value.
        labels: integers [N] or None.
        specs: the model's inputs; empty where all have their rows on the first axis, any number at
            a time.
        output_axes: by output, the axis of its rows; None where a call's whole output is the answer
            to its one row. What is not named has its rows on the first axis.
        is_one_by_one: a call takes one row.
    """

    inputs: dict[str, NDArray]
    labels: NDArray[np.int64] | None
    specs: tuple[InputSpec, ...] = ()
    output_axes: Mapping[str, int | None] = field(default_factory=dict)
    is_one_by_one: bool = False

    def __len__(self) -> int:
        return self.rows.count

    @cached_property
    def rows(self) -> Rows:
        """The same as the registry knows it."""
        specs = self.specs or tuple(
            InputSpec(name, value.dtype.name, ("rows", *value.shape[1:]), 0)
            for name, value in self.inputs.items()
        )
        count = next(
            len(self.inputs[spec.name])
            for spec in specs
            if spec.batch_axis is not None or self.inputs[spec.name].ndim > len(spec.shape)
        )
        return Rows(specs, self.inputs, count, self.is_one_by_one)

    @property
    def is_plain(self) -> bool:
        """Whether every input has its rows on the first axis and a call takes several."""
        return not self.is_one_by_one and all(spec.batch_axis == 0 for spec in self.specs)

    @property
    def row_arrays(self) -> list[NDArray]:
        """The inputs that differ from row to row, each [N, ...], in the order of their names."""
        specs = {spec.name: spec for spec in self.rows.specs}
        return [
            value
            for name, value in sorted(self.inputs.items())
            if specs[name].batch_axis is not None or value.ndim > len(specs[name].shape)
        ]

    def head(self, count: int) -> "Samples":
        """The first `count` rows."""
        return self.take(np.arange(min(count, len(self))))

    def pick(self, count: int, seed: int) -> "Samples":
        """`count` rows drawn without replacement, the same for the same seed."""
        if count >= len(self):
            return self
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return self.take(rows)

    def take(self, rows: NDArray[np.int64]) -> "Samples":
        """The rows of these indices."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, inputs=dict(self.rows.take(rows).arrays), labels=labels)

    def unlabelled(self) -> "Samples":
        """The same inputs without labels."""
        return replace(self, labels=None)

    def count_rows(self, wanted: int) -> int:
        """How many rows a call takes: `wanted` where the graph leaves it free."""
        return 1 if self.is_one_by_one else self.rows.fixed_rows or wanted

    def batches(self, size: int) -> Iterator[tuple[Feed, int]]:
        """Feeds of at most `size` rows in order, each with how many of its rows count.

        A graph with a fixed number of rows is always fed that many.
        """
        return self.rows.batches(size)

    def feed(self, rows: int) -> Feed:
        """One call on about `rows` rows, the last repeated where there are fewer."""
        return self.rows.feed(0, self.count_rows(rows))


def input_specs(model: Path | onnx.ModelProto, axes: Mapping[str, int | None]) -> list[InputSpec]:
    """The inputs of a model with the axis of their rows.

    Args:
        axes: those that the version's contract names.

    Raises:
        ModelUnsupportedError: an input that nothing can be fed to, or an axis that there is not.
    """
    graph = onnx.load(str(model), load_external_data=False) if isinstance(model, Path) else model
    try:
        return choose_specs(extract_signature(graph)["inputs"], axes)
    except RuleError as error:
        raise ModelUnsupportedError(f"The inputs are not known: {error}") from error


def load_samples(path: Path, specs: Sequence[InputSpec]) -> Samples:
    """The samples of an npz file, checked against a graph's inputs.

    A graph with a single input that has rows takes the array named after it, or `x`; `y` holds
    labels.

    Raises:
        DataSetUnusableError: naming the array, what was expected and what was found.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise DataSetUnusableError(f"Not a readable npz file without pickle: {error}") from error
    try:
        rows = fit_dataset(specs, arrays)
    except (RuleError, StopIteration) as error:
        raise DataSetUnusableError(str(error) or "The data set has no rows.") from error
    samples = Samples(dict(rows.arrays), None, tuple(specs), is_one_by_one=rows.is_one_by_one)
    for name, value in samples.inputs.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise DataSetUnusableError(f"Input {name!r} has values that are not finite.")
    counts = {len(value) for value in samples.row_arrays}
    if len(counts) != 1 or not 0 < max(counts) <= MAX_ROWS:
        raise DataSetUnusableError(
            f"Inputs must have the same number of rows, 1 to {MAX_ROWS}; found {sorted(counts)}."
        )
    return replace(samples, labels=_check_labels(arrays.get("y"), counts.pop()))


def _check_labels(labels: NDArray | None, rows: int) -> NDArray[np.int64] | None:
    if labels is None:
        return None
    if labels.shape != (rows,) or labels.dtype.kind not in "iu":
        raise DataSetUnusableError(
            f"Labels `y`: expected {rows} integers, found {labels.dtype} {labels.shape}."
        )
    return labels.astype(np.int64)


def check_classes(samples: Samples, classes: int | None) -> None:
    """Refuses labels that the model has no score for: each would count as a wrong answer."""
    if classes is None or samples.labels is None:
        return
    lowest, highest = int(samples.labels.min()), int(samples.labels.max())
    if lowest < 0 or highest >= classes:
        raise DataSetUnusableError(
            f"Labels `y`: expected 0 to {classes - 1}, the model's {classes} scores; "
            f"found {lowest} to {highest}."
        )


def row_hashes(samples: Samples) -> set[bytes]:
    """A digest of each distinct row over all inputs."""
    columns = samples.row_arrays
    return set(hash_rows([v.astype(str) if v.dtype.kind == "O" else v for v in columns]))


def check_disjoint(calibration: Samples, evaluation: Samples) -> None:
    """Refuses sets that share rows: a model must not be judged on what it was fitted to."""
    shared = len(row_hashes(calibration) & row_hashes(evaluation))
    if shared:
        raise DataSetUnusableError(
            f"Calibration and evaluation sets share {shared} rows; they must be disjoint.",
            {"shared_rows": shared},
        )


def random_samples(specs: Sequence[InputSpec], count: int, seed: int) -> Samples:
    """Standard normal inputs; they destroy most models and are used only where asked for."""
    return Samples(dict(draw_rows(specs, count, seed).arrays), None, tuple(specs))
