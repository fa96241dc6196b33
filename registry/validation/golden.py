"""Golden vectors: a few inputs and what the model makes of them, for a device's self-test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.reading.golden import to_array, to_input
from registry.validation.arrays import read_npz
from registry.validation.feeds import Arrays, InputSpec, Rows, are_loose, draw_rows
from registry.validation.rules import RuleError
from registry.validation.running import Session, run_feed

GOLDEN_ROWS = 64
MIN_GOLDEN_ROWS = 8
GOLDEN_BYTES = 1024**2
TRUTH = "truth"
MAX_GOLDEN_BYTES = 512 * 1024 * 1024


def write_golden(
    folder: Path,
    session: Session,
    specs: Sequence[InputSpec],
    rows: Rows | None,
    truth: NDArray[Any] | None,
) -> bool:
    """Writes golden.npz, `input_<name>` and `output_<name>` arrays without pickle.

    Inputs come from the parent variant's golden file, else from real rows, else they are drawn;
    False when nothing is left to compare, or free dimensions make drawn inputs fail. The classes
    `truth` of the rows, where they are known, come along.

    Raises:
        RuleError: the model fails, or answers numbers that are not finite, on given inputs.
    """
    names = [item.name for item in session.get_outputs()]
    given = folder / "golden_inputs.npz"
    is_drawn = not given.exists() and rows is None
    if given.exists():
        feed, chosen_truth = _read_inputs(given, specs)
    else:
        feed, chosen_truth = _choose_inputs(specs, rows, truth)
    try:
        results = run_feed(session, names, feed)
    except RuleError:
        if is_drawn and are_loose(specs):
            return False
        raise
    arrays = {f"input_{name}": _storable(value) for name, value in feed.items()}
    kept = 0
    for name, value in zip(names, results, strict=True):
        output = to_array(value)
        if output is None:
            continue
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            if is_drawn:
                return False
            raise RuleError(f"The output {name!r} is not finite on the golden inputs")
        arrays[f"output_{name}"] = output
        kept += 1
    if not kept:
        return False
    if chosen_truth is not None:
        arrays[TRUTH] = chosen_truth
    np.savez(folder / "golden.npz", **arrays)  # type: ignore[arg-type]
    return True


def _read_inputs(path: Path, specs: Sequence[InputSpec]) -> tuple[Arrays, NDArray[Any] | None]:
    arrays = read_npz(path, MAX_GOLDEN_BYTES)
    names = [spec.name for spec in specs]
    feed = {name: arrays[f"input_{name}"] for name in names if f"input_{name}" in arrays}
    if set(feed) != set(names):
        raise RuleError(f"The golden inputs do not fit: expected {names}, got {sorted(feed)}")
    return {name: to_input(value) for name, value in feed.items()}, arrays.get(TRUTH)


def _choose_inputs(
    specs: Sequence[InputSpec], rows: Rows | None, truth: NDArray[Any] | None
) -> tuple[Arrays, NDArray[Any] | None]:
    if rows is None:
        drawn = draw_rows(specs, 1)
        return drawn.feed(0, drawn.fixed_rows or 1), None
    batch = 1 if rows.is_one_by_one else rows.fixed_rows
    row_bytes = sum(array.nbytes for array in rows.head(1).arrays.values())
    chosen = choose_golden_rows(rows.count, row_bytes, batch)
    feed = rows.take(chosen).feed(0, rows.fixed_rows or len(chosen))
    if truth is None or rows.fixed_rows not in (None, len(chosen)):
        return feed, None
    return feed, truth[chosen]


def choose_golden_rows(rows: int, row_bytes: int, batch: int | None) -> NDArray[np.int64]:
    """Which rows of a data set become golden vectors: spread over it, as sets lie sorted by class.

    Args:
        row_bytes: of the inputs of one row.
        batch: how many the model takes at once; None where it takes any number.
    """
    fitting = min(GOLDEN_ROWS, max(MIN_GOLDEN_ROWS, GOLDEN_BYTES // max(row_bytes, 1)))
    count = min(rows, batch or fitting)
    return np.linspace(0, rows - 1, count).round().astype(np.int64)


def _storable(values: NDArray[Any]) -> NDArray[Any]:
    """Texts in a type that numpy stores without pickle."""
    return np.asarray(values, dtype=str) if values.dtype.kind == "O" else values
