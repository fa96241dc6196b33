"""Figures about a model's answers: accuracy with its interval, agreement, divergence. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from registry.intervals import wilson_interval

_TINY = 1e-9


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


def agreement_of(reference: NDArray, other: NDArray) -> Proportion:
    """How often both give the same class."""
    same = reference.argmax(axis=1) == np.nan_to_num(other, nan=-np.inf).argmax(axis=1)
    return measure_share(int(same.sum()), len(reference))


def near_share(reference: NDArray, other: NDArray, tolerance: float) -> Proportion:
    """How many rows lie within `tolerance` of the reference, each column in its own scale.

    A row's distance is the root mean square over columns of the difference divided by the
    column's root mean square over all rows.
    """
    expected = reference.astype(np.float64)
    scale = np.sqrt(np.mean(expected**2, axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    difference = np.nan_to_num(other.astype(np.float64), nan=np.inf) - expected
    with np.errstate(over="ignore"):
        distance = np.sqrt(np.mean((difference / scale) ** 2, axis=1))
    return measure_share(int((distance <= tolerance).sum()), len(reference))


def relative_error(reference: NDArray, other: NDArray) -> float:
    """The root mean square of the difference over that of the reference."""
    difference = other.astype(np.float64) - reference
    scale = math.sqrt(float(np.mean(reference.astype(np.float64) ** 2))) + _TINY
    return math.sqrt(float(np.mean(difference**2))) / scale


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
