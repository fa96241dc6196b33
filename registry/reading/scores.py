"""Classes out of scores: one row's probabilities, best first."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SMALL = 64
"""Up to so many classes plain Python is faster than the fixed cost of numpy's calls."""


@dataclass(frozen=True, slots=True)
class Box:
    """One thing found in a frame."""

    class_id: int
    label: str
    score: float
    corners: tuple[float, float, float, float]
    """x1, y1, x2, y2, in the units of the model."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one row of a model's outputs says."""

    class_id: int | None
    """None where the task has no classes, or the outputs are not finite."""
    confidence: float | None
    """Of the best class, 0 to 1; None also where the model gives a class alone."""
    top_k: tuple[tuple[int, str, float], ...]
    """(class, label, probability), best first; equal scores in the order of their classes."""
    error: str = ""
    """`non_finite`, `unreadable` where the outputs are not what the contract says, or empty."""
    measures: tuple[float, ...] = ()
    """The task's numbers, in the order of the reader's `measure_names`."""
    boxes: tuple[Box, ...] = ()
    """Of a detection, those that are kept, best first."""


NON_FINITE = Reading(None, None, (), "non_finite")
UNREADABLE = Reading(None, None, (), "unreadable")


def rank_scores(row: Array, activation: str, top_k: int) -> list[tuple[int, float]] | None:
    """The best `top_k` columns (one at least) with their probabilities; None when not finite.

    Args:
        row: scores of shape (classes,).
        activation: `softmax`, `sigmoid`, `exp` (of logarithms) or `none`.
    """
    if len(row) > SMALL:
        return _rank_many(row, activation, top_k)
    return _rank_few(row, activation, top_k)


def _rank_few(row: Array, activation: str, top_k: int) -> list[tuple[int, float]] | None:
    values = row.tolist()
    if not all(map(math.isfinite, values)):
        return None
    order = sorted(range(len(values)), key=values.__getitem__, reverse=True)
    best = order[:top_k] or order[:1]
    if activation == "softmax":
        highest = values[order[0]]
        powers = [math.exp(value - highest) for value in values]
        total = sum(powers)
        return [(i, powers[i] / total) for i in best]
    if activation == "sigmoid":
        return [(i, sigmoid(values[i])) for i in best]
    if activation == "exp":
        return [(i, math.exp(min(values[i], 0.0))) for i in best]
    return [(i, float(values[i])) for i in best]


def _rank_many(row: Array, activation: str, top_k: int) -> list[tuple[int, float]] | None:
    values = row.astype(np.float64)
    if not np.isfinite(values).all():
        return None
    chances = activate(values, activation)
    best = np.argsort(-values, kind="stable")[: max(1, top_k)]
    return [(int(i), float(chances[i])) for i in best]


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    return 1.0 / (1.0 + math.exp(-max(-500.0, min(500.0, value))))


def activate(scores: Array, activation: str, axis: int = -1) -> Array:
    """Probabilities from scores: `softmax` along `axis`, `sigmoid`, `exp` or `none`."""
    if activation == "softmax":
        powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
        return np.asarray(powers / powers.sum(axis=axis, keepdims=True))
    if activation == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scores, -500, 500))))
    if activation == "exp":
        return np.asarray(np.exp(np.minimum(scores, 0.0)))
    return scores


def clip(chance: float) -> float:
    """A probability: rounding may leave 1.0000001."""
    return min(1.0, max(0.0, chance))
