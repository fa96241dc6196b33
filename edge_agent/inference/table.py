"""Rows of an npz or npy file: one array per input of the model, rows first."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.exceptions import InputError

Array = np.ndarray[Any, Any]
ANSWERS = ("y", "class_id", "confidence", "truth")
"""Arrays of a data set that are no inputs."""


class Table:
    """What was read; `take(i)` is the input of one row."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        """Raises InputError: no array has rows, or they have not the same number."""
        self._arrays = {name: array for name, array in arrays.items() if name not in ANSWERS}
        counts = {len(array) for array in self._arrays.values() if array.ndim}
        if len(counts) != 1 or 0 in counts:
            shapes = [f"{name} {list(array.shape)}" for name, array in sorted(arrays.items())]
            raise InputError(
                f"expected rows, as many in each array, found shape {', '.join(shapes) or '()'}"
            )
        self._count = counts.pop()

    def __len__(self) -> int:
        return self._count

    @property
    def first(self) -> Array:
        """The first array that has rows."""
        return next(array for array in self._arrays.values() if array.ndim)

    def describe(self) -> str:
        return ", ".join(f"{name} {list(a.shape[1:])}" for name, a in self._arrays.items())

    def take(self, row: int) -> dict[str, Array]:
        """One row of each array, its rows on axis 0; an array without rows as it is."""
        return {
            name: array[row : row + 1] if array.ndim else array
            for name, array in self._arrays.items()
        }


def read_table(path: Path) -> Table:
    """The table in the file at `path`; an npy file is the array `x`.

    Raises:
        InputError: there is no such file, it is neither, or it holds no rows.
    """
    try:
        data = np.load(path, allow_pickle=False)
        if isinstance(data, np.ndarray):
            return Table({"x": np.asarray(data, order="C")})
        with data:
            return Table({name: np.asarray(data[name], order="C") for name in data.files})
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected an npy or npz file without pickle") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
