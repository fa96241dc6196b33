"""A few rows through the model: what its answers look like, and where their batch axis is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.validation.feeds import Rows
from registry.validation.rules import RuleError
from registry.validation.running import Session, run_feed

TRIAL_ROWS = (2, 3)
"""Two sizes of a batch tell its axis from those that only happen to have its size."""
SUM_ERROR = 2e-3
"""What FP16 and INT8 leave of a sum of 1."""


@dataclass(frozen=True)
class Answer:
    """What one call gave."""

    rows: int
    outputs: list[Any]


def try_rows(session: Session, names: Sequence[str], rows: Rows) -> list[Answer]:
    """The outputs for a batch of each trial size; of those sizes that run, one at least.

    Raises:
        RuleError: the model runs on none of them.
    """
    # Some graphs have a free first dimension and still take one row alone.
    sizes: tuple[int, ...] = (*TRIAL_ROWS, 1)
    if rows.is_one_by_one:
        sizes = (1,)
    if rows.fixed_rows:
        sizes = (rows.fixed_rows,)
    answers: list[Answer] = []
    failure: RuleError | None = None
    for size in sizes:
        if size == 1 and len(answers) == len(TRIAL_ROWS):
            break
        try:
            answers.append(Answer(size, run_feed(session, names, rows.feed(0, size))))
        except RuleError as error:
            failure = failure or error
    if failure is not None and not answers:
        raise failure
    return answers


def fit_batches(session: Session, names: Sequence[str], rows: Rows) -> Rows:
    """The same rows, one at a time where the model takes no two, such as by a state of fixed size.

    A model that takes none at all says so where it is run next.
    """
    if rows.is_one_by_one or rows.fixed_rows:
        return rows
    try:
        run_feed(session, names, rows.feed(0, TRIAL_ROWS[0]))
    except RuleError:
        return replace(rows, is_one_by_one=True)
    return rows


def find_batch_axis(answers: Sequence[Any], rows: Sequence[int]) -> int | None:
    """The axis whose size is the number of rows in every trial; None when there is none.

    Args:
        answers: of one output, an array per trial.
        rows: of each trial.
    """
    arrays = [answer for answer in answers if isinstance(answer, np.ndarray)]
    if len(arrays) != len(rows) or not arrays:
        return None
    for axis in range(min(array.ndim for array in arrays)):
        if all(array.shape[axis] == size for array, size in zip(arrays, rows, strict=True)):
            return axis
    return None


def sums_to_one(scores: NDArray[Any], axis: int) -> bool:
    """True for what can only be probabilities of classes that exclude each other."""
    values = scores.astype(np.float64)
    if values.ndim < 2 or values.shape[axis] < 2 or not np.isfinite(values).all():
        return False
    error = np.abs(values.sum(axis=axis) - 1.0)
    return bool((values >= -SUM_ERROR).all() and (error <= SUM_ERROR).all())


def are_logarithms(scores: NDArray[Any], axis: int) -> bool:
    """True for logarithms of such probabilities."""
    values = scores.astype(np.float64)
    if not np.isfinite(values).all() or (values > SUM_ERROR).any():
        return False
    return sums_to_one(np.exp(values), axis)


def lie_within_one(scores: NDArray[Any]) -> bool:
    """True where every number could be a probability."""
    values = scores.astype(np.float64)
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all())
