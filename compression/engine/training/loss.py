"""What training makes small: the distance from the teacher's answers, and from the labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.engine.training.engines import Array, Engine

_SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Loss:
    """The loss of a lesson.

    Attributes:
        is_classifier: whether the answers are scores of classes.
        is_probability: whether those are probabilities already.
        temperature: of the teacher's part.
        scale: by which each column is measured where the answers are no scores of classes.
    """

    is_classifier: bool
    is_probability: bool
    temperature: float
    scale: NDArray[np.float32]

    def measure(
        self, engine: Engine, answers: Array, teacher: Array, labels: Array | None, alpha: Any
    ) -> Array:
        """Alpha parts of the teacher's divergence at the temperature, the rest the labels' (Hinton,
        Vinyals and Dean 2015): a T^2 KL(teacher/T, student/T) + (1 - a) cross-entropy.

        Without labels the teacher's part is all. Where the answers are no scores of classes, it is
        the mean squared distance, each column in its own scale.

        Args:
            answers, teacher: [N, K].
            labels: shares of the classes [N, K], or None.
            alpha: in [0, 1].
        """
        if not self.is_classifier:
            distance = (answers - teacher) / engine.to_array(self.scale)
            return (distance * distance).mean()
        scores = self._to_logits(engine, answers)
        heat = self.temperature
        student = engine.nn.log_softmax(scores / heat, -1)
        wanted = engine.nn.log_softmax(self._to_logits(engine, teacher) / heat, -1)
        rows = len(teacher)
        divergence = (engine.xp.exp(wanted) * (wanted - student)).sum() / rows * heat**2
        if labels is None:
            return divergence
        surprise = -(labels * engine.nn.log_softmax(scores, -1)).sum() / rows
        return alpha * divergence + (1.0 - alpha) * surprise

    def _to_logits(self, engine: Engine, scores: Array) -> Array:
        """Scores before the softmax: the logarithm where they are behind it."""
        if not self.is_probability:
            return scores
        return engine.xp.log(engine.xp.clip(scores, _SMALLEST_PROBABILITY, None))
