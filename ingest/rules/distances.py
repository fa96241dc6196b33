"""Other distances and tests on binned counts, beside the PSI.

Sources: Lin, "Divergence measures based on the Shannon entropy" (IEEE Trans. Information Theory 37,
1991) with Endres and Schindelin (2003) for its root being a metric; Vallender (1973) for the
one-dimensional Wasserstein distance; Good, "Permutation Tests" (2000), ch. 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import distance

from ingest.rules.psi import Counts, population_stability_index, smooth_shares


def _shares(counts: Counts) -> NDArray[np.float64]:
    values = np.asarray(counts, dtype=float)
    return values / max(values.sum(), 1e-300)


def jensen_shannon_distance(reference: Counts, current: Counts) -> float:
    """Root of the Jensen-Shannon divergence in bits: 0 for equal shares, 1 for disjoint ones."""
    found = distance.jensenshannon(_shares(reference), _shares(current), base=2)
    # Rounding may leave the root of a tiny negative number.
    return float(np.nan_to_num(found))


def l_infinity(reference: Counts, current: Counts) -> float:
    """Largest change of one bin's share, 0 ... 1; how far the most moved class moved."""
    return float(np.max(np.abs(_shares(reference) - _shares(current)), initial=0.0))


def standardised_wasserstein(
    reference: Counts, current: Counts, positions: Sequence[float] | NDArray[np.float64]
) -> float:
    """W1 distance in units of the reference's standard deviation, mass at `positions` (rising)."""
    at = np.asarray(positions, dtype=float)
    p, q = _shares(reference), _shares(current)
    if p.sum() <= 0 or q.sum() <= 0:
        return 0.0
    moved = float(stats.wasserstein_distance(at, at, p, q))
    mean = float(np.sum(p * at))
    sigma = float(np.sqrt(max(np.sum(p * (at - mean) ** 2), 0.0)))
    return moved / (sigma + 1e-8)


def bin_positions(edges: Sequence[float]) -> NDArray[np.float64]:
    """A value for each of the len(edges) + 1 bins: middles, and the outer edges themselves."""
    at = np.asarray(edges, dtype=float)
    return np.concatenate([at[:1], (at[:-1] + at[1:]) / 2, at[-1:]])


@dataclass(frozen=True)
class MeanDrop:
    """How far a mean fell, with the standard error of the difference."""

    drop: float
    standard_error: float

    def p_value(self, margin: float) -> float:
        """Probability of such a drop when the true one is `margin` (one-sided, normal)."""
        return float(stats.norm.sf((self.drop - margin) / max(self.standard_error, 1e-12)))

    def threshold(self, margin: float, level: float = 0.99) -> float:
        """Drop that a true drop of `margin` exceeds with probability 1 - `level`."""
        return float(margin + stats.norm.ppf(level) * self.standard_error)


def mean_drop(
    reference: Counts,
    current: Counts,
    positions: NDArray[np.float64],
    n_reference: float,
    n_current: float,
) -> MeanDrop:
    """Reference mean minus current mean; `n_...` are effective sample sizes for the error."""
    means, variances = [], []
    for counts in (reference, current):
        share = _shares(counts)
        mean = float(np.sum(share * positions))
        means.append(mean)
        variances.append(float(np.sum(share * (positions - mean) ** 2)))
    error = np.sqrt(variances[0] / max(n_reference, 1) + variances[1] / max(n_current, 1))
    return MeanDrop(drop=means[0] - means[1], standard_error=float(error))


def rate_p_value(failures: int, n: int, limit: float, design_effect: float = 1.0) -> float:
    """Probability of so many failures when the true rate is `limit` (exact binomial).

    Clustered failures count as `failures / design_effect` among `n / design_effect`.
    """
    if n <= 0:
        return 1.0
    effective = max(round(n / design_effect), 1)
    seen = min(int(failures / design_effect), effective)
    return float(stats.binom.sf(seen - 1, effective, limit))


def estimate_accuracy(confidence: Counts, calibration: Mapping[str, Any] | None) -> float | None:
    """Accuracy expected from confidences alone; None without a calibration map.

    Args:
        confidence: counts in equal bins over [0, 1].
        calibration: `{"edges": [...], "accuracy": [...]}`, accuracy per confidence interval.

    Average confidence through a calibration map, as in Guillory et al., "Predicting with
    Confidence on Unseen Distributions" (ICCV 2021).
    """
    if not calibration or not calibration.get("accuracy"):
        return None
    counts = np.asarray(confidence, dtype=float)
    accuracy = np.asarray(calibration["accuracy"], dtype=float)
    if counts.sum() <= 0 or not np.isfinite(accuracy).all():
        return None
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    inner = np.asarray(calibration["edges"], dtype=float)
    inner = inner[1:-1] if len(inner) == len(accuracy) + 1 else inner[: len(accuracy) - 1]
    return float(np.sum(counts * accuracy[np.searchsorted(inner, middles, "right")]) / counts.sum())


def permutation_p_value(
    canary: Sequence[Counts], control: Sequence[Counts], rounds: int = 499, seed: int = 0
) -> float | None:
    """Probability of so large a PSI between the groups if devices were assigned by chance.

    The unit is the device: rows are devices, shape (devices, B). None below two devices per side.
    """
    if len(canary) < 2 or len(control) < 2:
        return None
    table = np.vstack([np.asarray(canary, dtype=float), np.asarray(control, dtype=float)])
    total = table.sum(axis=0)
    observed = population_stability_index(
        np.sum(np.asarray(control, dtype=float), axis=0), np.sum(np.asarray(canary, float), axis=0)
    )
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(rounds):
        chosen = table[rng.choice(len(table), len(canary), replace=False)].sum(axis=0)
        p, q = smooth_shares(total - chosen), smooth_shares(chosen)
        hits += float(((p - q) * np.log(p / q)).sum()) >= observed - 1e-12
    return (1 + hits) / (rounds + 1)
