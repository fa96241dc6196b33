"""What an output's numbers say: classes, labels and confidence."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SMALL = 64
"""Up to so many classes plain Python is faster than the fixed cost of numpy's calls."""


@dataclass(frozen=True, slots=True)
class Scores:
    class_id: int | None
    """None when the scores are not finite, or there are none."""
    confidence: float | None
    """Of the best class, 0 to 1."""
    top_k: tuple[tuple[int, str, float], ...]
    """(class, label, probability), best first; equal scores in the order of their classes."""
    error: str = ""
    """`non_finite`, or empty."""


@dataclass(frozen=True, slots=True)
class ScoreReader:
    """How a release's manifest says its outputs are read."""

    index: int
    """Which output holds the scores."""
    activation: str
    """`softmax`, `sigmoid` or `none`."""
    labels: tuple[str, ...]
    top_k: int

    def read(self, outputs: list[Array]) -> Scores:
        """The scores of the first row of the batch."""
        scores = np.asarray(outputs[self.index])
        row = scores.reshape(len(scores), -1)[0] if scores.ndim > 1 else scores.reshape(-1)
        if len(row) == 0:
            return Scores(None, None, ())
        found = self._best_of_few(row) if len(row) <= SMALL else self._best_of_many(row)
        if found is None:
            return Scores(None, None, (), "non_finite")
        labels = self.labels
        top = tuple((i, labels[i] if i < len(labels) else str(i), p) for i, p in found)
        return Scores(top[0][0], min(1.0, max(0.0, top[0][2])), top)

    def _best_of_few(self, row: Array) -> list[tuple[int, float]] | None:
        values = row.tolist()
        if not all(map(math.isfinite, values)):
            return None
        order = sorted(range(len(values)), key=values.__getitem__, reverse=True)
        best = order[: self.top_k] or order[:1]
        if self.activation == "softmax":
            highest = values[order[0]]
            powers = [math.exp(value - highest) for value in values]
            total = sum(powers)
            return [(i, powers[i] / total) for i in best]
        if self.activation == "sigmoid":
            return [(i, 1.0 / (1.0 + math.exp(-max(-500.0, min(500.0, values[i]))))) for i in best]
        return [(i, float(values[i])) for i in best]

    def _best_of_many(self, row: Array) -> list[tuple[int, float]] | None:
        values = row.astype(np.float64)
        if not np.isfinite(values).all():
            return None
        chances = activate(values, self.activation)
        best = np.argsort(-values, kind="stable")[: max(1, self.top_k)]
        return [(int(i), float(chances[i])) for i in best]


def activate(scores: Array, activation: str) -> Array:
    """Probabilities from scores: `softmax`, `sigmoid` or `none`."""
    if activation == "softmax":
        powers = np.exp(scores - scores.max())
        return np.asarray(powers / powers.sum())
    if activation == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scores, -500, 500))))
    return scores
