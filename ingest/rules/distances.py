"""Other distances and tests on binned counts, beside the PSI.

Sources: Lin, "Divergence measures based on the Shannon entropy" (IEEE Trans. Information Theory 37,
1991) with Endres and Schindelin (2003) for its root being a metric; Vallender (1973) for the
one-dimensional Wasserstein distance; Good, "Permutation Tests" (2000), ch. 3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import distance

from ingest.rules.psi import Counts


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
