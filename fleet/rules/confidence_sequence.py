"""An interval for an effect that holds at every look; pure.

A fixed 95 % interval that is looked at every minute misses the truth far more often than in 5 % of
cases. A confidence sequence misses it in at most 5 % however often, and whenever, it is looked at.

Notation: `I = 1 / SE²` is the information gathered so far, α the chance of an error for ever, m the
margin that is to be decided about. With `I* = 2 (2.5 / m)²`, the information at which a margin is
about to be decided, `ρ² = (−2 ln α + ln(1 − 2 ln α)) / I*` makes the interval tightest there, and

    z(I) = sqrt( 2 (Iρ² + 1) / (Iρ²) · ln( sqrt(Iρ² + 1) / α ) )

is the half-width in standard errors. With few devices the standard error is an estimate itself, so
the Student quantile of the same tail probability replaces z.

Sources: normal mixture boundary: Robbins, Ann. Math. Statist. 41 (1970); Howard, Ramdas, McAuliffe
and Sekhon, Ann. Statist. 49 (2021), eq. 14; asymptotic validity for means: Waudby-Smith, Arbour,
Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
Ann. Statist. 52 (2024); choice of ρ: the same, appendix B.2; independent increments in information:
Scharfstein, Tsiatis and Robins, JASA 92 (1997).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

ALPHA = 0.05
#: Below it a standard error says that nothing was measured, not that the effect is certain.
SMALLEST_ERROR = 1e-9


@dataclass(frozen=True)
class Interval:
    """Ends of a confidence sequence now, in the unit of the effect; each float64 of one shape."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def width_in_errors(
    error: ArrayLike, degrees: ArrayLike, margin: ArrayLike, alpha: ArrayLike = ALPHA
) -> NDArray[np.float64]:
    """Half-width of the sequence in standard errors, by the formula above.

    Args:
        error: standard error of the effect now, > 0.
        degrees: degrees of freedom the standard error rests on, > 0; infinity for a known one.
        margin: the limit to be decided about, in the unit of the effect, > 0.
        alpha: chance that the effect ever lies beyond one end; arrays broadcast.
    """
    level = np.asarray(alpha, dtype=float)
    information = 1 / np.maximum(np.asarray(error, dtype=float), SMALLEST_ERROR) ** 2
    planned = 2 * (2.5 / np.asarray(margin, dtype=float)) ** 2
    rho = (-2 * np.log(level) + np.log1p(-2 * np.log(level))) / planned
    scaled = information * rho
    z = np.sqrt(2 * (scaled + 1) / scaled * (np.log1p(scaled) / 2 - np.log(level)))
    freedom = np.asarray(degrees, dtype=float)
    student = stats.t.isf(stats.norm.sf(z), np.where(np.isinf(freedom), 1.0, freedom))
    return np.asarray(np.where(np.isinf(freedom), z, student))


def confidence_interval(
    effect: ArrayLike,
    error: ArrayLike,
    degrees: ArrayLike,
    margin: ArrayLike,
    alpha: ArrayLike = ALPHA,
) -> Interval:
    """Where the effect lies now; arguments as in `width_in_errors`."""
    spread = np.maximum(np.asarray(error, dtype=float), SMALLEST_ERROR)
    half: Any = width_in_errors(spread, degrees, margin, alpha) * spread
    middle = np.asarray(effect, dtype=float)
    return Interval(middle - half, middle + half)
