"""Reading npz files that nobody has vouched for."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.validation.rules import RuleError

MAX_ARRAYS = 64
MAX_PROCESSOR_ROWS = 64
ANSWERS = ("y", "class_id", "confidence")
"""Arrays that are no inputs: the true label, and what a device answered."""


def read_npz(path: Path, max_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of an npz, without pickle.

    Args:
        max_bytes: the most that all arrays together may unpack to.

    Raises:
        RuleError: not an npz, packed objects, or larger than allowed once unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ARRAYS:
                raise RuleError(f"Expected at most {MAX_ARRAYS} arrays; got {len(entries)}")
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > max_bytes:
                raise RuleError(f"The arrays unpack to {unpacked} bytes, above {max_bytes}")
        with np.load(path, allow_pickle=False) as archive_arrays:
            return {name: np.asarray(archive_arrays[name]) for name in archive_arrays.files}
    except (zipfile.BadZipFile, ValueError, OSError, KeyError, EOFError) as error:
        raise RuleError(f"The file is not a readable npz without pickle: {error}") from error


def input_names(arrays: Mapping[str, Any]) -> list[str]:
    """The names of the arrays that are inputs of a model, sorted."""
    return sorted(name for name in arrays if name not in ANSWERS)


def check_dataset(arrays: dict[str, NDArray[Any]], classes: int | None = None) -> dict[str, Any]:
    """Rows and a description of each array.

    Args:
        classes: how many labels the model has, if it is a classifier with a label map.

    A data set has `x`, or an array named after each input of a model with several, rows first,
    numbers or texts; an input that belongs to the call may be one value without rows. If known, `y`
    holds integer labels; from devices come also `class_id` and `confidence`.

    Raises:
        RuleError: no input, no rows, NaN, labels that are no classes, or arrays that do not fit
            each other.
    """
    names = input_names(arrays)
    if not names:
        raise RuleError(
            f"Expected an array 'x', or one named after each input; got {sorted(arrays)}"
        )
    rows = next((len(arrays[name]) for name in names if arrays[name].ndim), 0)
    first = next((name for name in names if arrays[name].ndim), names[0])
    for name in names:
        array = arrays[name]
        if array.dtype.kind not in "fiubU":
            raise RuleError(f"{name!r} needs numbers or texts; got {array.dtype}")
        if not array.ndim and first != name:
            continue  # one value for every row, such as a rate
        if array.ndim < 1 or len(array) < 1:
            raise RuleError(f"{name!r} needs rows of numbers; got {array.dtype} of {array.shape}")
        if len(array) != rows:
            raise RuleError(f"{name!r} has {len(array)} rows; {first!r} has {rows}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RuleError(f"{name!r} has NaN or infinite values")
    for name in ("y", "class_id"):
        array = arrays.get(name, np.zeros(rows, np.int64))
        if array.shape != (rows,) or array.dtype.kind not in "iu":
            raise RuleError(
                f"{name!r} needs {rows} integers; got {array.dtype} of shape {array.shape}"
            )
    if classes is not None and "y" in arrays:
        lowest, highest = int(arrays["y"].min()), int(arrays["y"].max())
        if lowest < 0 or highest >= classes:
            raise RuleError(
                f"Labels 'y' are the model's classes, 0 to {classes - 1}; got {lowest} to {highest}"
            )
    confidence = arrays.get("confidence", np.zeros(rows))
    if confidence.shape != (rows,) or confidence.dtype.kind != "f":
        raise RuleError(
            f"'confidence' needs {rows} numbers; got {confidence.dtype} of {confidence.shape}"
        )
    if not ((confidence >= 0) & (confidence <= 1) | np.isnan(confidence)).all():
        raise RuleError("'confidence' lies in 0 to 1")
    described = {
        name: {"dtype": array.dtype.name, "shape": list(array.shape)}
        for name, array in sorted(arrays.items())
    }
    return {"rows": rows, "arrays": described}


def check_processor_golden(arrays: dict[str, NDArray[Any]], *, channels: int) -> None:
    """Returns when the arrays say what a processor must answer to raw images.

    `image` is uint8 `[rows, height, width, channels]`, `class_id` integers `[rows]`, and
    `confidence`, when given, floats in [0, 1] of the same length.

    Raises:
        RuleError: an array is missing, unknown, or of another type or shape.
    """
    image, classes = arrays.get("image"), arrays.get("class_id")
    unknown = sorted(set(arrays) - {"image", "class_id", "confidence"})
    if image is None or classes is None or unknown:
        raise RuleError(f"Expected 'image' and 'class_id' for a processor; got {sorted(arrays)}")
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[3] != channels or not image.size:
        raise RuleError(
            f"'image' needs uint8 [rows, height, width, {channels}]; "
            f"got {image.dtype} of {image.shape}"
        )
    rows = len(image)
    if not 0 < rows <= MAX_PROCESSOR_ROWS:
        raise RuleError(f"Expected 1 to {MAX_PROCESSOR_ROWS} images; got {rows}")
    if classes.dtype.kind not in "iu" or classes.shape != (rows,):
        raise RuleError(f"'class_id' needs {rows} integers; got {classes.dtype} of {classes.shape}")
    confidence = arrays.get("confidence")
    if confidence is not None and (
        confidence.dtype.kind != "f"
        or confidence.shape != (rows,)
        or not ((confidence >= 0) & (confidence <= 1)).all()
    ):
        raise RuleError(f"'confidence' needs {rows} numbers from 0 to 1")
