"""How large a figure chance alone makes it, for each kind of figure that is judged.

A law knows what is tolerated. It gives the probability of a figure, the line above which a figure
is a finding at a level, and what the evidence at hand can find at all.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import optimize, special

from ingest.rules import psi as drift
from ingest.rules.clustering import SampleSide

POWER = 0.9
"""How often a change must be found for us to say that it is found."""
AIMED_POWER = 0.93
"""What the line is drawn for: the true law is a little wider than the one it is drawn by."""
_USUAL_LEVEL = 0.999


class Law(Protocol):
    """The distribution of a figure when the truth is exactly what is tolerated."""

    def p_value(self, value: float) -> float:
        """Probability of a figure of at least `value`."""
        ...

    def threshold(self, level: float) -> float:
        """The figure that is exceeded with probability 1 - `level`."""
        ...


@dataclass(frozen=True)
class PsiLaw:
    """A PSI of clustered counts: scaled noncentral chi-square.

    `df` and `k` carry the second-order correction of Rao and Scott: with a the unevenness of the
    design effects, PSI / (k (1 + a)) has (B - 1) / (1 + a) degrees of freedom. k is widened where
    few devices tell the design effect (Thomas and Rao 1987: F in place of chi-square).

    Attributes:
        k_reference: the reference's part of k; it stays when more records come in.
        tolerated: the true PSI that is no finding.
        widening: by how much second order and few devices have widened k.
    """

    df: float
    k: float
    k_reference: float
    tolerated: float
    widening: float = 1.0

    def p_value(self, value: float) -> float:
        """Probability of a PSI of at least `value` when the true one is `tolerated`."""
        return drift.psi_p_value(value, self.df + 1, self.k, self.tolerated)

    def threshold(self, level: float) -> float:
        """PSI that the tolerated one exceeds with probability 1 - `level`."""
        return drift.psi_threshold(self.df + 1, self.k, self.tolerated, level)

    def found(self, line: float, power: float = POWER) -> float:
        """The smallest true PSI that lies above `line` with probability `power`."""
        low, high = 0.0, line + 1.0
        while drift.psi_p_value(line, self.df + 1, self.k, high) < power:
            high *= 2
        return float(
            optimize.brentq(
                lambda true: drift.psi_p_value(line, self.df + 1, self.k, true) - power,
                low,
                high,
                xtol=1e-4,
            )
        )

    def at_size(self, n_eff: float) -> "PsiLaw":
        """The law with `n_eff` effective records now, the reference as it is."""
        k = self.k_reference + self.widening / n_eff
        return PsiLaw(self.df, k, self.k_reference, self.tolerated, self.widening)


def psi_law(reference: SampleSide, current: SampleSide, bins: int, tolerated: float) -> PsiLaw:
    """The law of the PSI between two sides in `bins` merged bins.

    The sides' own figures combine as in Satterthwaite (Biometrics Bulletin 2, 1946): each counts by
    its part of k.
    """
    parts = np.array([1 / max(side.n_eff, 1e-9) for side in (reference, current)])
    share = parts / parts.sum()
    uneven = float(share[0] ** 2 * reference.unevenness + share[1] ** 2 * current.unevenness)
    uneven = min(uneven, bins - 2.0) if bins > 2 else 0.0
    df = (bins - 1) / (1 + uneven)
    doubt = sum(
        part**2 / (side.clusters - 1)
        for part, side in zip(share, (reference, current), strict=True)
        if side.clusters > 1
    )
    factor = 1.0
    if doubt > 0:
        factor = float(
            special.fdtri(df, df / doubt, _USUAL_LEVEL) * df / special.chdtri(df, 1 - _USUAL_LEVEL)
        )
    widening = (1 + uneven) * factor
    k = float(parts.sum()) * widening
    return PsiLaw(df, k, float(parts[0]) * widening, tolerated, widening)


def warning_law(law: PsiLaw, critical: float, level: float) -> PsiLaw:
    """`law` with what is tolerated lowered, at most by half, until a PSI of `critical` is found.

    Found means above the line in nine of ten cases. With much evidence nothing is lowered.
    """

    def finds(tolerated: float) -> float:
        line = drift.psi_threshold(law.df + 1, law.k, tolerated, level)
        return drift.psi_p_value(line, law.df + 1, law.k, critical) - AIMED_POWER

    if critical <= law.tolerated or finds(law.tolerated) >= 0:
        return law
    least = law.tolerated / 2
    tolerated = least
    if finds(least) > 0:
        tolerated = float(optimize.brentq(finds, least, law.tolerated, xtol=1e-4))
    return PsiLaw(law.df, law.k, law.k_reference, tolerated, law.widening)


def size_that_finds(law: PsiLaw, critical: float, level: float, n_eff: float) -> float | None:
    """Effective records, more than `n_eff`, from which a true PSI of `critical` is found.

    None when a thousand times as many are not enough: the reference's own error stays, so a small
    reference may keep it from being found for ever.
    """

    def finds(size: float) -> bool:
        at = law.at_size(size)
        line = warning_law(at, critical, level).threshold(level)
        return drift.psi_p_value(line, at.df + 1, at.k, critical) >= POWER - 1e-3

    low, high = max(n_eff, 1.0), max(n_eff, 1.0) * 1000
    if not finds(high):
        return None
    while high / low > 1.05:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if finds(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class MeanLaw:
    """A difference of two means: Student's t with the Welch degrees of freedom."""

    margin: float
    standard_error: float
    df: float

    def p_value(self, value: float) -> float:
        """Probability of such a difference when the true one is `margin`."""
        return float(
            special.stdtr(self.df, (self.margin - value) / max(self.standard_error, 1e-12))
        )

    def threshold(self, level: float) -> float:
        """Difference that a true one of `margin` exceeds with probability 1 - `level`."""
        return float(self.margin + special.stdtrit(self.df, level) * self.standard_error)


@dataclass(frozen=True)
class ShareLaw:
    """A share of `trials` independent ones: the binomial test of its being at most `limit`."""

    trials: float
    limit: float

    def p_value(self, value: float) -> float:
        """Probability of a share of at least `value` when the true one is `limit`."""
        n = max(round(self.trials), 1)
        hits = min(int(value * n + 1e-9), n)
        return float(special.betainc(hits, n - hits + 1, self.limit)) if hits else 1.0

    def threshold(self, level: float) -> float:
        """The least share that is a finding at `level`; above 1 when none would be."""
        n = max(round(self.trials), 1)
        # The least number of hits that is passed with at most 1 - `level`.
        hits = max(int(np.ceil(special.bdtrik(level, n, self.limit))), 0)
        if hits and special.bdtr(hits - 1, n, self.limit) >= level:
            hits -= 1
        return (hits + 1) / n


@dataclass(frozen=True)
class PlainLaw:
    """A line drawn by a person: above it is a finding, whatever the evidence."""

    line: float

    def p_value(self, value: float) -> float:
        """0 above the line, else 1."""
        return 0.0 if value > self.line else 1.0

    def threshold(self, level: float) -> float:
        """The line."""
        return self.line


@dataclass(frozen=True)
class OtherLaw:
    """A law of another figure that is told by `shown`: the share above a line, shown as a ratio."""

    law: Law
    measured: float
    shown: float

    def p_value(self, value: float) -> float:
        """That of the measured figure; `value` is only how it is shown."""
        return self.law.p_value(self.measured)

    def threshold(self, level: float) -> float:
        """The shown limit."""
        return self.shown
