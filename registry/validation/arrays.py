"""Reading npz files that nobody has vouched for."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.validation.rules import RuleError

MAX_ARRAYS = 64


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


def check_dataset(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Rows and a description of each array: `x` with rows first, `y` of integers if given.

    Raises:
        RuleError: no `x`, no rows, NaN, or a `y` that does not fit.
    """
    x = arrays.get("x")
    if x is None:
        raise RuleError(f"Expected an array 'x'; got {sorted(arrays)}")
    if x.ndim < 1 or len(x) < 1 or x.dtype.kind not in "fiub":
        raise RuleError(f"'x' needs rows of numbers; got {x.dtype} of shape {x.shape}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise RuleError("'x' has NaN or infinite values")
    y = arrays.get("y")
    if y is not None and (y.shape != (len(x),) or y.dtype.kind not in "iu"):
        raise RuleError(f"'y' needs {len(x)} integers; got {y.dtype} of shape {y.shape}")
    described = {
        name: {"dtype": array.dtype.name, "shape": list(array.shape)}
        for name, array in sorted(arrays.items())
    }
    return {"rows": len(x), "arrays": described}
