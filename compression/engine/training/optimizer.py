"""AdamW with a one-cycle rate, and clipped gradients, written once for every engine."""

import math
from dataclasses import dataclass

from compression.engine.training.engines import Array, Engine

CLIP_NORM = 1.0
WEIGHT_DECAY = 1e-4
WARM_UP_SHARE = 0.1
SECOND_MOMENT = 0.999
MOMENTA = (0.85, 0.95)
_FIRST_DIVISOR, _LAST_DIVISOR = 25.0, 1e4
_EPSILON = 1e-8


@dataclass(frozen=True)
class Pace:
    """One step's place in the cycle.

    Attributes:
        number: of the step, from 1.
        rate: by which the weights move.
        momentum: share of the past in the mean gradient.
    """

    number: int
    rate: float
    momentum: float


def set_pace(number: int, steps: int, rate: float) -> Pace:
    """The one-cycle schedule (Smith 2018): a short rise of the rate, then a long fall to nearly
    nothing, both along half a cosine; the momentum goes the other way.

    Args:
        number: of the step, 1 to `steps`.
        steps: all of them.
        rate: the highest.
    """
    # The rise takes a step at least, however few there are.
    rise = max(WARM_UP_SHARE * (steps + 1) - 1, 1.0)
    place = number - 1
    low, high = MOMENTA
    if place <= rise:
        share = place / rise
        return Pace(number, _bend(rate / _FIRST_DIVISOR, rate, share), _bend(high, low, share))
    share = (place - rise) / max(steps - rise, 1.0)
    last = rate / _FIRST_DIVISOR / _LAST_DIVISOR
    return Pace(number, _bend(rate, last, share), _bend(low, high, share))


def _bend(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def clip_gradient(engine: Engine, gradient: Array) -> tuple[Array, Array]:
    """The gradient, shortened to `CLIP_NORM` where it is longer, and its length before."""
    norm = engine.xp.sqrt((gradient * gradient).sum())
    return gradient * engine.xp.clip(CLIP_NORM / (norm + 1e-6), None, 1.0), norm


def move(
    engine: Engine,
    weights: Array,
    gradient: Array,
    moments: tuple[Array, Array],
    pace: tuple[Array, Array, Array, Array],
) -> tuple[Array, tuple[Array, Array]]:
    """The weights after a step of AdamW (Loshchilov and Hutter 2019), and the new moments.

    Args:
        weights: all of them in one row.
        moments: the means of gradients and of their squares.
        pace: rate, momentum, and what the sums of both moments have reached of one by now.
    """
    rate, momentum, first_share, second_share = pace
    mean = momentum * moments[0] + (1.0 - momentum) * gradient
    square = SECOND_MOMENT * moments[1] + (1.0 - SECOND_MOMENT) * gradient * gradient
    length = engine.xp.sqrt(square / second_share) + _EPSILON
    kept = weights * (1.0 - rate * WEIGHT_DECAY)
    return kept - rate * (mean / first_share) / length, (mean, square)
