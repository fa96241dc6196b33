"""How good a model is on the rows that were held out. Pure."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.measure.statistics import (
    accuracy_of,
    mean_divergence,
    relative_error,
    to_probabilities,
)

_TINY = 1e-9


@dataclass(frozen=True)
class Score:
    """Figures of one model.

    Attributes:
        divergence: mean KL divergence from the teacher in nats; the squared relative error where
            answers are no scores of classes.
        accuracy: the share of labels it hits, in [0, 1]; None without labels.
        loss: mean cross-entropy with the labels in nats; None without labels.
    """

    divergence: float
    accuracy: float | None = None
    loss: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """More is better: accuracy, then cross-entropy; without labels the divergence alone."""
        if self.accuracy is None or self.loss is None:
            return (-self.divergence, 0.0)
        return (self.accuracy, -self.loss)

    def to_json(self) -> dict[str, Any]:
        """Finite numbers alone."""
        values = {"divergence": self.divergence, "accuracy": self.accuracy, "loss": self.loss}
        return {
            name: round(value, 6) if value is not None and math.isfinite(value) else None
            for name, value in values.items()
        }


def score_answers(
    reference: NDArray, answers: NDArray, labels: NDArray | None, *, is_classifier: bool = True
) -> Score:
    """The score of answers [N, K] against the teacher's [N, K] and labels [N] or None.

    Answers that are no scores of classes diverge by their squared relative error. Answers that
    are not finite rank below all others.
    """
    if not np.isfinite(answers).all():
        return Score(
            math.inf, None if labels is None else 0.0, None if labels is None else math.inf
        )
    if not is_classifier:
        return Score(relative_error(reference, answers) ** 2)
    divergence = mean_divergence(reference, answers)
    if labels is None:
        return Score(divergence)
    chosen = to_probabilities(answers)[np.arange(len(labels)), labels]
    loss = float(-np.log(chosen + _TINY).mean())
    return Score(divergence, accuracy_of(answers, labels).value, loss)
