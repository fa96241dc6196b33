"""Where the rows are in what a model answers, found by running it on a few of them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compression.exceptions import ModelUnsupportedError
from compression.measure.samples import Samples
from registry.validation.contract.trial import Answer, find_batch_axis, fit_batches, try_rows
from registry.validation.feeds import Rows
from registry.validation.rules import RuleError


def find_layout(
    session: Any, samples: Samples, judged: Collection[str], batch_axis: int | None
) -> Samples:
    """The same samples with the axis of the rows of each output, one by one where it must be.

    Args:
        judged: outputs that need an answer for each row.
        batch_axis: of the outputs, as the contract has it; None: an answer is of one sample.

    Raises:
        ModelUnsupportedError: the model does not run on the samples, or does not answer row by row.
    """
    names = [item.name for item in session.get_outputs()]
    try:
        rows = fit_batches(session, names, samples.rows)
        answers = try_rows(session, names, rows)
        axes = _list_axes(names, answers, rows, batch_axis)
        is_apart = batch_axis is None and any(axes[name] is None for name in judged)
        if is_apart and not rows.is_one_by_one and not rows.fixed_rows:
            rows = replace(rows, is_one_by_one=True)
            answers = try_rows(session, names, rows)
            axes = _list_axes(names, answers, rows, batch_axis)
    except RuleError as error:
        raise ModelUnsupportedError(
            f"The source does not run on the evaluation samples: {error}"
        ) from error
    for name, value in zip(names, answers[-1].outputs, strict=True):
        if name in judged:
            _check_answer(name, value, answers[-1].rows, axes[name])
    return replace(samples, output_axes=axes, is_one_by_one=rows.is_one_by_one)


def _list_axes(
    names: Sequence[str], answers: Sequence[Answer], rows: Rows, batch_axis: int | None
) -> dict[str, int | None]:
    sizes = [answer.rows for answer in answers]
    found: dict[str, int | None] = {}
    for place, name in enumerate(names):
        values = [answer.outputs[place] for answer in answers]
        if len(values) > 1:
            found[name] = find_batch_axis(values, sizes)
            continue
        # One trial tells less: where the contract says, else wherever the size is that of the rows.
        shape = np.shape(values[0])
        fitting = [axis for axis, size in enumerate(shape) if size == sizes[0]]
        if batch_axis in fitting or (fitting and not rows.is_one_by_one):
            found[name] = batch_axis if batch_axis in fitting else fitting[0]
        else:
            found[name] = None
    return found


def _check_answer(name: str, value: Any, rows: int, axis: int | None) -> None:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiubOUS":
        kind = getattr(value, "dtype", type(value).__name__)
        raise ModelUnsupportedError(f"Output {name!r} holds {kind}, expected numbers.")
    if axis is None and rows != 1:
        raise ModelUnsupportedError(
            f"Output {name!r} has the shape {value.shape} for {rows} rows; expected one answer "
            "per row. Name its axis in the contract (`outputs.batch_axis`), or export the model "
            "with one."
        )
