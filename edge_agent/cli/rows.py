"""Rows of an npy or npz file that a person names on the command line."""

import zipfile
from pathlib import Path
from typing import Any

from edge_agent.exceptions import InputError


def read_rows(path: Path) -> Any:
    """The array of an npy file, or `x` of an npz, rows first.

    Raises:
        InputError: there is no such file, it is neither, or it holds no rows.
    """
    import numpy as np

    try:
        data = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected an npy or npz file without pickle") from error
    if isinstance(data, np.ndarray):
        rows = data
    else:
        with data:
            if "x" not in data.files:
                raise InputError(f"{path}: expected an array 'x', found {sorted(data.files)}")
            try:
                rows = data["x"]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
                raise InputError(f"{path}: 'x' cannot be read: {error}") from error
    if rows.ndim == 0 or len(rows) == 0:
        raise InputError(f"{path}: expected rows, found shape {list(rows.shape)}")
    return rows
