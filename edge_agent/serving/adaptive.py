"""Which of two models answers: the large one while time and the device allow, else the small one.

Pure: the caller measures and passes in what it saw.
"""

import math
from enum import StrEnum

from edge_agent.config import AdaptiveConfig


class Route(StrEnum):
    LARGE = "large"
    SMALL = "small"


class AdaptiveChooser:
    """Chooses by latency with hysteresis; scarce resources override towards the small model."""

    def __init__(self, config: AdaptiveConfig) -> None:
        self.config = config
        self.choice = Route.LARGE
        self._held = 0
        self._latency_ms = {Route.LARGE: math.nan, Route.SMALL: math.nan}
        self._factor = 1.0

    @property
    def expected_large_ms(self) -> float:
        """What the large model would take now; NaN while nothing is known."""
        return self._latency_ms[Route.LARGE] * self._factor

    def choose(self, *, is_scarce: bool = False) -> Route:
        """The model to ask next. `is_scarce`: memory, heat or power are past a threshold."""
        if is_scarce:
            self._switch(Route.SMALL)
            return self.choice
        if self.choice is Route.SMALL and self._held >= self.config.retry_inferences:
            self.forget(Route.LARGE)
        if self._held >= self.config.hold_inferences:
            budget, large_ms = self.config.latency_budget_ms, self.expected_large_ms
            if self.choice is Route.LARGE and large_ms > budget:
                self._switch(Route.SMALL)
            elif self.choice is Route.SMALL and not large_ms >= budget * self.config.recover_ratio:
                # Also when it is NaN: the only way to know is to try.
                self._switch(Route.LARGE)
        return self.choice

    def record(self, choice: Route, latency_ms: float) -> None:
        """Takes note of what an inference cost.

        While the small model runs, the large one is not measured: its expected latency moves with
        the small one's, for both suffer from the same load.
        """
        self._held += 1
        before = self._latency_ms[choice]
        weight = self.config.smoothing
        after = latency_ms if math.isnan(before) else before + weight * (latency_ms - before)
        if choice is Route.LARGE:
            self._factor = 1.0
        elif not math.isnan(before) and before > 0:
            self._factor *= after / before
        self._latency_ms[choice] = after

    def forget(self, choice: Route) -> None:
        """Drops what was measured, as when another release of the model takes over."""
        self._latency_ms[choice] = math.nan
        if choice is Route.LARGE:
            self._factor = 1.0

    def wants_second_opinion(self, choice: Route, confidence: float | None) -> bool:
        """True when the small model was unsure and the large one fits the budget."""
        if choice is Route.LARGE:
            return False
        is_unsure = confidence is None or confidence < self.config.min_confidence
        return is_unsure and not self.expected_large_ms > self.config.latency_budget_ms

    def _switch(self, choice: Route) -> None:
        self.choice, self._held = choice, 0
