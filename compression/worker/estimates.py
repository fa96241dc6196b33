"""How far a job is, and how long it will still take. Pure.

A recipe's time is the sum of its steps: every pass, then measuring. What a step is expected to
take comes from earlier jobs; what the finished part really took corrects the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from compression.recipe.passes import PASSES

#: Of a small model, for measuring that nobody has done yet; a pass declares its own.
MEASURING_SECONDS = 4.0
#: A running step is never said to be over, whatever it or the clock says.
_MOST = 0.95
_PACES = (0.1, 10.0)


@dataclass(frozen=True)
class Estimate:
    """`fraction` of the whole recipe in [0, 1]; `eta_seconds` until its end, None when unknown."""

    fraction: float
    eta_seconds: float | None


def expect_seconds(
    steps: Sequence[str], history: Iterable[Mapping[str, float]]
) -> dict[str, float]:
    """Seconds expected of each step: the median of earlier jobs, else a usual figure.

    Args:
        steps: names of passes; `evaluate` for measuring.
        history: seconds by step of earlier jobs on the same version.
    """
    known: dict[str, list[float]] = {}
    for row in history:
        for name, seconds in row.items():
            known.setdefault(name, []).append(seconds)
    return {
        name: max(median(known[name]), 0.01) if name in known else _usual_seconds(name)
        for name in steps
    }


def _usual_seconds(name: str) -> float:
    return PASSES[name].usual_seconds if name in PASSES else MEASURING_SECONDS


def estimate_progress(
    *,
    expected: Sequence[float],
    spent: Sequence[float],
    step_seconds: float,
    share: float | None,
    bound_seconds: float | None = None,
) -> Estimate:
    """How far a running job is.

    Args:
        expected: seconds expected of every step, 0 for one that was answered from the cache.
        spent: seconds that each finished step took; its length is the index of the running step.
        step_seconds: how long the running step has been going.
        share: its own report of how far it is in [0, 1]; None when it says nothing.
        bound_seconds: the time budget after which the running step ends at the latest.
    """
    index = len(spent)
    whole = sum(expected)
    if index >= len(expected) or whole <= 0:
        return Estimate(1.0, 0.0)
    finished, current, later = sum(expected[:index]), expected[index], sum(expected[index + 1 :])
    if share is None:
        share = min(step_seconds / current, _MOST) if current > 0 else 0.0
        worked = finished
        pace = _pace(sum(spent), worked)
        rest = max(current * pace - step_seconds, current * pace * (1 - _MOST))
    else:
        share = min(share, _MOST)
        worked = finished + share * current
        pace = _pace(sum(spent) + step_seconds, worked)
        rest = step_seconds * (1 - share) / share if share > 0 else current * pace
    if bound_seconds is not None:
        rest = min(rest, max(bound_seconds - step_seconds, 0.0))
    fraction = (finished + share * current) / whole
    return Estimate(round(min(fraction, 1.0), 4), round(rest + later * pace, 1))


def _pace(taken: float, expected: float) -> float:
    """How many times slower than expected; 1 while there is too little to tell."""
    if expected < 0.5:
        return 1.0
    return min(max(taken / expected, _PACES[0]), _PACES[1])
