"""Statistics of change between binned counts: values in, values out.

Notation: r and c are the counts of the reference and of now in the same B bins, N_r and N_c their
sums, p and q their smoothed shares, k = 1/N_r + 1/N_c.

Sources: PSI and its law under no change: Yurdakul, "Statistical Properties of Population Stability
Index" (2018), ch. 3. Jeffreys prior of 1/2 per bin: Jeffreys, "Theory of Probability" (1961),
ch. 3. Non-null law of a chi-square distance: noncentral chi-square with noncentrality
N * distance, Cramer, "Mathematical Methods of Statistics" (1946).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Counts = Sequence[int] | Sequence[float] | NDArray[np.float64]
WARNING_PSI = 0.10
CRITICAL_PSI = 0.25
LEVEL = 0.99
MIN_REFERENCE_SHARE = 0.05
# Where the noncentral chi-square is normal to three digits; its series get slow and inexact there.
_NORMAL_ABOVE = 20_000.0


def merge_plan(
    reference: Counts, is_ordered: bool = True, min_share: float = MIN_REFERENCE_SHARE
) -> list[int]:
    """Which merged bin each fine bin belongs to, so that each holds `min_share` of the reference.

    Ordered bins merge with neighbours; unordered ones (classes) below the share are pooled.
    """
    counts = np.asarray(reference, dtype=float)
    need = min_share * counts.sum()
    if not is_ordered:
        return _pooled_plan(counts, need)
    plan: list[int] = []
    group, held = 0, 0.0
    for count in counts:
        if held >= need and held > 0:
            group, held = group + 1, 0.0
        plan.append(group)
        held += float(count)
    if group and held < need:
        plan = [min(index, group - 1) for index in plan]
    return plan


def _pooled_plan(counts: NDArray[np.float64], need: float) -> list[int]:
    small = (counts < need) | (counts == 0)
    if not small.any():
        return list(range(len(counts)))
    if 0 < counts[small].sum() < need or counts[small].sum() == 0:
        large = np.flatnonzero(~small)
        if len(large):
            # Of equals the last, so that a pool of nothing stands at the end beside it.
            small[large[::-1][np.argmin(counts[large][::-1])]] = True
    names = {int(index): group for group, index in enumerate(np.flatnonzero(~small))}
    pool = len(names)
    return [names.get(index, pool) for index in range(len(counts))]


def merge_bins(counts: Counts, plan: Sequence[int]) -> NDArray[np.float64]:
    """Counts of the merged bins of `plan`, float64 of shape (max(plan) + 1,)."""
    values = np.asarray(counts, dtype=float)[: len(plan)]
    width = max(plan, default=-1) + 1
    merged = np.bincount(np.asarray(plan)[: len(values)], weights=values, minlength=width)
    return merged.astype(float)


def smooth_shares(counts: Counts) -> NDArray[np.float64]:
    """Shares with half a count added to each bin: (c + 1/2) / (N + B/2); never zero."""
    values = np.asarray(counts, dtype=float)
    return (values + 0.5) / (values.sum() + 0.5 * len(values))


def psi_contributions(reference: Counts, current: Counts) -> NDArray[np.float64]:
    """Each bin's share of the PSI, (p - q) ln(p / q), all at least 0."""
    p, q = smooth_shares(reference), smooth_shares(current)
    return (p - q) * np.log(p / q)


def population_stability_index(reference: Counts, current: Counts) -> float:
    """PSI = sum (p - q) ln(p / q): 0 for equal shares, symmetric."""
    return float(psi_contributions(reference, current).sum())


def psi_threshold(bins: float, k: float, true_psi: float, level: float = LEVEL) -> float:
    """PSI that a population with exactly `true_psi` exceeds with probability 1 - `level`."""
    df, shift = bins - 1, true_psi / k
    if shift > _NORMAL_ABOVE:
        spread = math.sqrt(2 * (df + 2 * shift))
        return float(k * (df + shift + spread * special.ndtri(level)))
    return float(k * special.chndtrix(level, df, shift))


def psi_p_value(psi: float, bins: float, k: float, true_psi: float) -> float:
    """Probability of a PSI of at least `psi` when the true one is `true_psi`.

    `bins` may be a fraction where the degrees of freedom were corrected for clustering.
    """
    df, shift, x = bins - 1, true_psi / k, psi / k
    if shift > _NORMAL_ABOVE:
        return float(special.ndtr((df + shift - x) / math.sqrt(2 * (df + 2 * shift))))
    if x < df + shift - 8 * math.sqrt(2 * (df + 2 * shift)):
        return 1.0  # So far below the mean, the library's series overflows.
    # A judgement asks a thousand times, and `scipy.stats` takes a hundred times as long. What the
    # difference loses is below 1e-15, which no family of tests is large enough to see.
    return max(0.0, 1.0 - float(special.chndtr(x, df, shift)))


def psi_lower_bound(psi: float, bins: float, k: float, level: float = LEVEL) -> float:
    """Largest true PSI that `psi` rules out at `level`; 0 when it does not rule out no change."""
    if special.chdtrc(bins - 1, psi / k) > 1 - level:
        return 0.0

    def excess(true_psi: float) -> float:
        return psi_p_value(psi, bins, k, true_psi) - (1 - level)

    # With `psi` itself as the truth, as large a figure is as likely as not.
    return float(optimize.brentq(excess, 0.0, max(psi, 1e-9), xtol=1e-9))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values; keeping those up to a bounds the false discovery rate by a.

    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995), sec. 2.
    """
    if not len(p_values):
        return []
    values: list[float] = stats.false_discovery_control(np.asarray(p_values, float)).tolist()
    return values
