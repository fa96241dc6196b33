"""Calibration and evaluation samples: read without pickle, checked against the graph. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.exceptions import DataSetUnusableError
from registry.stratification import hash_rows

MAX_ROWS = 2_000_000
_ORT_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(bool)": np.dtype(np.bool_),
}


@dataclass(frozen=True)
class InputSpec:
    """One input of a graph: shape without the batch axis; None is a free dimension."""

    name: str
    dtype: np.dtype
    batch: int | None
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Samples:
    """Model inputs by name, each [N, ...], and integer labels [N] or None."""

    inputs: dict[str, NDArray]
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def head(self, count: int) -> "Samples":
        """The first `count` rows."""
        labels = None if self.labels is None else self.labels[:count]
        return Samples({key: value[:count] for key, value in self.inputs.items()}, labels)

    def pick(self, count: int, seed: int) -> "Samples":
        """`count` rows drawn without replacement, the same for the same seed."""
        if count >= len(self):
            return self
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return self.take(rows)

    def take(self, rows: NDArray[np.int64]) -> "Samples":
        """The rows of these indices."""
        labels = None if self.labels is None else self.labels[rows]
        return Samples({key: value[rows] for key, value in self.inputs.items()}, labels)

    def unlabelled(self) -> "Samples":
        """The same inputs without labels."""
        return Samples(self.inputs, None)

    def batches(self, size: int) -> Iterator[dict[str, NDArray]]:
        """Feeds of at most `size` rows in order."""
        for start in range(0, len(self), size):
            yield {key: value[start : start + size] for key, value in self.inputs.items()}


def input_specs(session: Any) -> list[InputSpec]:
    """The inputs of an ONNX Runtime session."""
    specs = []
    for item in session.get_inputs():
        dims = tuple(dim if isinstance(dim, int) and dim > 0 else None for dim in item.shape)
        if item.type not in _ORT_TYPES or not dims:
            raise DataSetUnusableError(
                f"Input {item.name!r} of type {item.type} and shape {item.shape} is not supported."
            )
        specs.append(InputSpec(item.name, _ORT_TYPES[item.type], dims[0], dims[1:]))
    return specs


def load_samples(path: Path, specs: list[InputSpec]) -> Samples:
    """The samples of an npz file, checked against a graph's inputs.

    A single-input graph takes the array named after its input, or `x`; `y` holds labels.

    Raises:
        DataSetUnusableError: naming the array, what was expected and what was found.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise DataSetUnusableError(f"Not a readable npz file without pickle: {error}") from error
    inputs = {}
    for spec in specs:
        name = spec.name if spec.name in arrays else "x" if len(specs) == 1 else spec.name
        if name not in arrays:
            raise DataSetUnusableError(
                f"No array for input {spec.name!r}; found {sorted(arrays)}.", {"input": spec.name}
            )
        inputs[spec.name] = _check_array(arrays[name], spec)
    counts = {len(value) for value in inputs.values()}
    if len(counts) != 1 or 0 in counts:
        raise DataSetUnusableError(f"Inputs must have the same number of rows, found {counts}.")
    return Samples(inputs, _check_labels(arrays.get("y"), counts.pop()))


def _check_array(array: NDArray, spec: InputSpec) -> NDArray:
    fits = array.ndim == len(spec.shape) + 1 and all(
        want is None or want == have for want, have in zip(spec.shape, array.shape[1:], strict=True)
    )
    if not fits:
        raise DataSetUnusableError(
            f"Input {spec.name!r}: expected shape (N, {spec.shape}), found {array.shape}."
        )
    if array.dtype != spec.dtype:
        if not np.can_cast(array.dtype, spec.dtype, casting="same_kind"):
            raise DataSetUnusableError(
                f"Input {spec.name!r}: expected {spec.dtype}, found {array.dtype}."
            )
        array = array.astype(spec.dtype)
    if len(array) > MAX_ROWS:
        raise DataSetUnusableError(f"At most {MAX_ROWS} rows, found {len(array)}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataSetUnusableError(f"Input {spec.name!r} has values that are not finite.")
    return np.ascontiguousarray(array)


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
    return set(hash_rows(list(samples.inputs.values())))


def check_disjoint(calibration: Samples, evaluation: Samples) -> None:
    """Refuses sets that share rows: a model must not be judged on what it was fitted to."""
    shared = len(row_hashes(calibration) & row_hashes(evaluation))
    if shared:
        raise DataSetUnusableError(
            f"Calibration and evaluation sets share {shared} rows; they must be disjoint.",
            {"shared_rows": shared},
        )


def random_samples(specs: list[InputSpec], count: int, seed: int) -> Samples:
    """Standard normal inputs; they destroy most models and are used only where asked for."""
    generator = np.random.default_rng(seed)
    inputs = {}
    for spec in specs:
        shape = (count, *(dim or 1 for dim in spec.shape))
        if spec.dtype.kind == "f":
            inputs[spec.name] = generator.normal(size=shape).astype(spec.dtype)
        else:
            inputs[spec.name] = generator.integers(0, 2, size=shape).astype(spec.dtype)
    return Samples(inputs, None)
