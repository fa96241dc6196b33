"""Figures about a model's answers: accuracy with its interval, agreement, divergence. Pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from registry.intervals import wilson_interval

_TINY = 1e-9
MIN_COLUMN_MOVE = 0.02


@dataclass(frozen=True)
class Proportion:
    """A share with its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float
    samples: int


def measure_share(hits: int, samples: int) -> Proportion:
    """A share of trials with its interval.

    Args:
        hits: successes, 0 to `samples`.
        samples: trials, at least 1.
    """
    return Proportion(hits / samples, *wilson_interval(hits, samples), samples)


def mean_share(rows: NDArray[np.float64]) -> Proportion:
    """The mean of numbers in [0, 1] with its interval.

    It is that of a share, which is too wide: no such numbers vary more than those that are 0 or 1.
    """
    total = float(rows.sum())
    low, high = wilson_interval(round(total), len(rows))
    value = total / len(rows)
    return Proportion(value, min(low, value), max(high, value), len(rows))


def to_probabilities(scores: NDArray) -> NDArray[np.float64]:
    """Probabilities [N, C] of scores: as they are where rows already are, else the softmax."""
    values = scores.reshape(len(scores), -1).astype(np.float64)
    is_probability = values.min() >= -1e-6 and np.allclose(values.sum(axis=1), 1.0, atol=1e-3)
    if is_probability:
        return values
    exponents = np.exp(values - values.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def mean_divergence(reference: NDArray, other: NDArray) -> float:
    """The mean Kullback-Leibler divergence in nats of `other` from `reference` (scores [N, C])."""
    if not np.isfinite(other).all():
        return math.inf
    if reference.shape[1] == 1:
        # One number is no distribution; for a Gaussian, KL is the squared distance over the scale.
        return relative_error(reference, other) ** 2
    p, q = to_probabilities(reference), to_probabilities(other)
    return float(np.mean(np.sum(p * (np.log(p + _TINY) - np.log(q + _TINY)), axis=1)))


def accuracy_of(scores: NDArray, labels: NDArray) -> Proportion:
    """How often the highest score is the label."""
    hits = int((np.nan_to_num(scores, nan=-np.inf).argmax(axis=1) == labels).sum())
    return measure_share(hits, len(labels))


def macro_f1(classes: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """The mean over the classes that the labels name of each one's F1 (van Rijsbergen 1979)."""
    shares = []
    for number in np.unique(labels):
        found, true = classes == number, labels == number
        shares.append(2.0 * float((found & true).sum()) / float(found.sum() + true.sum()))
    return float(np.mean(shares))


def near_rows(reference: NDArray, other: NDArray, tolerance: float) -> NDArray[np.bool_]:
    """Which rows lie within `tolerance` of the reference, each column in its own scale.

    A row's distance is the root mean square over columns of the difference divided by the
    column's root mean square over all rows.
    """
    if reference.shape != other.shape:
        return np.zeros(len(reference), np.bool_)
    expected = reference.astype(np.float64)
    scale = np.sqrt(np.mean(expected**2, axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    difference = np.nan_to_num(other.astype(np.float64), nan=np.inf) - expected
    with np.errstate(over="ignore"):
        distance = np.sqrt(np.mean((difference / scale) ** 2, axis=1))
    return np.asarray(distance <= tolerance)


def relative_error(reference: NDArray, other: NDArray) -> float:
    """The root mean square of the difference over that of the reference."""
    difference = other.astype(np.float64) - reference
    scale = math.sqrt(float(np.mean(reference.astype(np.float64) ** 2))) + _TINY
    return math.sqrt(float(np.mean(difference**2))) / scale


def collapsed_columns(reference: NDArray, other: NDArray) -> list[str]:
    """The columns that are constant in `other` and are not in the reference, as `[:, 4]`.

    A column is an index of the second or the last axis, over all rows and all other axes: a class,
    a coordinate of boxes. One that moves in the reference by less than 2 % of the largest, or of 1
    where values are larger, is noise that no 8 bits can hold.

    Args:
        reference: answers [N, ...].
        other: answers of the same shape.
    """
    return [
        place
        for place, _, after in _moving_columns(reference, other)
        if float(np.ptp(after)) == 0.0
    ]


def worst_column(reference: NDArray, other: NDArray) -> float:
    """The largest error of a column: its root mean square over the column's standard deviation.

    0 where no column moves; about 1 for one that collapsed.
    """
    errors = [
        math.sqrt(float(np.mean((after - before) ** 2))) / (float(before.std()) + _TINY)
        for _, before, after in _moving_columns(reference, other)
    ]
    return max(errors, default=0.0)


def _moving_columns(reference: NDArray, other: NDArray) -> Iterator[tuple[str, NDArray, NDArray]]:
    if reference.ndim < 2 or reference.dtype.kind != "f" or reference.shape != other.shape:
        return
    for axis in sorted({1, reference.ndim - 1}):
        before, after = (
            np.moveaxis(value.astype(np.float64), axis, -1).reshape(-1, value.shape[axis])
            for value in (reference, other)
        )
        moves = np.ptp(before, axis=0)
        least = MIN_COLUMN_MOVE * min(1.0, float(moves.max(initial=0.0)))
        for index in np.flatnonzero(moves > least):
            place = [":"] * reference.ndim
            place[axis] = str(index)
            yield f"[{', '.join(place)}]", before[:, index], after[:, index]


def collapse_flags(scores: NDArray) -> list[str]:
    """Signs that a model no longer computes anything: `non_finite`, `all_zero`, `constant`."""
    flags = []
    if not np.isfinite(scores).all():
        flags.append("non_finite")
    elif not scores.any():
        flags.append("all_zero")
    elif len(scores) > 1 and float(np.ptp(scores.astype(np.float64), axis=0).max()) == 0.0:
        flags.append("constant")
    return flags
