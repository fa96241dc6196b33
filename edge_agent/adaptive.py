"""Which of two models answers: the large one while time and the device allow, else the small one.

Pure: the caller measures and passes in what it saw.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class Choice(StrEnum):
    LARGE = "large"
    SMALL = "small"


@dataclass(frozen=True)
class AdaptiveConfig:
    latency_budget_ms: float = 50.0
    recover_ratio: float = 0.7
    """Back to the large model only below this part of the budget, or the two would alternate."""
    hold_inferences: int = 20
    """Inferences with one choice before another; again so that the two do not alternate."""
    min_confidence: float = 0.6
    """A small model's answer below this is asked again of the large one."""
    smoothing: float = 0.1


class AdaptiveChooser:
    """Chooses by latency with hysteresis; scarce resources override towards the small model."""

    def __init__(self, config: AdaptiveConfig) -> None:
        self.config = config
        self.choice = Choice.LARGE
        self._held = 0
        self._latency_ms = {Choice.LARGE: math.nan, Choice.SMALL: math.nan}
        self._factor = 1.0

    def choose(self, *, is_scarce: bool = False) -> Choice:
        """The model to ask next. `is_scarce`: memory, heat or power are past a threshold."""
        if is_scarce:
            self.choice, self._held = Choice.SMALL, 0
            return self.choice
        large_ms = self._latency_ms[Choice.LARGE] * self._factor
        if self._held >= self.config.hold_inferences and not math.isnan(large_ms):
            budget = self.config.latency_budget_ms
            if self.choice is Choice.LARGE and large_ms > budget:
                self._switch(Choice.SMALL)
            elif self.choice is Choice.SMALL and large_ms < budget * self.config.recover_ratio:
                self._switch(Choice.LARGE)
        return self.choice

    def record(self, choice: Choice, latency_ms: float) -> None:
        """Takes note of what an inference cost.

        While the small model runs, the large one is not measured: its expected latency moves with
        the small one's, for both suffer from the same load.
        """
        self._held += 1
        before = self._latency_ms[choice]
        weight = self.config.smoothing
        after = latency_ms if math.isnan(before) else before + weight * (latency_ms - before)
        if choice is Choice.LARGE:
            self._factor = 1.0
        elif not math.isnan(before) and before > 0:
            self._factor *= after / before
        self._latency_ms[choice] = after

    def wants_second_opinion(self, choice: Choice, confidence: float | None) -> bool:
        """True when the small model was unsure and the large one fits the budget."""
        if choice is Choice.LARGE:
            return False
        is_unsure = confidence is None or confidence < self.config.min_confidence
        large_ms = self._latency_ms[Choice.LARGE] * self._factor
        fits = math.isnan(large_ms) or large_ms <= self.config.latency_budget_ms
        return is_unsure and fits

    def _switch(self, choice: Choice) -> None:
        self.choice, self._held = choice, 0
