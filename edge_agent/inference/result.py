"""What comes out of one inference."""

from typing import Any

import numpy as np

from edge_agent.reading.reader import Reader
from edge_agent.reading.scores import Box, Reading

Array = np.ndarray[Any, Any]


class Result:
    """What came out of one inference. The scores are read when first asked for."""

    __slots__ = ("_reader", "_scores", "is_cached", "latency_ms", "outputs")

    def __init__(
        self,
        outputs: list[Array],
        latency_ms: float,
        reader: Reader,
        *,
        is_cached: bool = False,
    ) -> None:
        self.outputs = outputs
        """Every output of the model, in its order: arrays (read-only with the cache on) or maps."""
        self.latency_ms = latency_ms
        """Of the runtime alone."""
        self.is_cached = is_cached
        self._reader = reader
        self._scores: Reading | None = None

    @property
    def scores(self) -> Reading:
        if self._scores is None:
            self._scores = self._reader.try_read(self.outputs)
        return self._scores

    @property
    def class_id(self) -> int | None:
        """None where the task has no classes, or the outputs are not finite."""
        return self.scores.class_id

    @property
    def confidence(self) -> float | None:
        return self.scores.confidence

    @property
    def top_k(self) -> tuple[tuple[int, str, float], ...]:
        """(class, label, probability), best first."""
        return self.scores.top_k

    @property
    def measures(self) -> dict[str, float]:
        """The numbers of a task without classes, by name."""
        return dict(self._reader.measures_of(self.scores))

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Of a detector, what it found, best first."""
        return self.scores.boxes

    @property
    def error(self) -> str:
        """`non_finite`, `unreadable` where the outputs are not what the contract says, or empty."""
        return self.scores.error


def keep(result: Result) -> Result:
    """A copy for the cache, whose arrays nobody can change; its own latency is nil."""
    for output in result.outputs:
        if isinstance(output, np.ndarray):
            output.flags.writeable = False
    kept = Result(result.outputs, 0.0, result._reader, is_cached=True)
    kept._scores = result.scores
    return kept
