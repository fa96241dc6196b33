"""What records are worth when those of one device resemble each other.

Sources: Rao and Scott, "On chi-squared tests for multiway contingency tables" (Annals of Statistics
12, 1984), first- and second-order correction; cluster variance: Cochran, "Sampling Techniques"
(1977), sec. 9A. Few clusters: Thomas and Rao, "Small-sample comparisons of level and power for
simple goodness-of-fit statistics under cluster sampling" (JASA 82, 1987).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = Sequence[int] | Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Clustering:
    """How the devices of a table of counts differ, beyond what chance does.

    `effect` records are worth one independent record (at least 1). `unevenness` is the squared
    coefficient of variation of that figure over the directions of the table: 0 where all bins are
    clustered alike. `by_bin` is the effect of each bin by itself, float64 of shape (B,).
    """

    devices: int
    effect: float
    unevenness: float
    by_bin: NDArray[np.float64]


def measure_clustering(table: NDArray[Any]) -> Clustering | None:
    """The clustering of one row of counts per device, shape (devices, B).

    With z_d = (c_d - n_d p) / sqrt(p) over the B' bins with counts, the matrix
    M = G/(G-1) sum_d z_d z_d' / N has the design effects as eigenvalues (Rao and Scott 1984,
    sec. 3). Their mean is tr(M) / (B' - 1); their spread comes from |M|^2, of which the part that
    G devices show by chance alone, tr(M)^2 / (G - 1), is taken off.

    Returns:
        None with fewer than two devices: there is nothing to compare.
    """
    rows = np.asarray(table, dtype=float)
    rows = rows[rows.sum(axis=1) > 0] if rows.ndim == 2 else np.zeros((0, 0))
    devices, total = len(rows), float(rows.sum())
    if devices < 2:
        return None
    p = rows.sum(axis=0) / total
    used = p > 0
    by_bin = np.ones(rows.shape[1])
    if used.sum() < 2:
        return Clustering(devices, 1.0, 0.0, by_bin)
    away = rows[:, used] - rows.sum(axis=1)[:, None] * p[used]
    scale = devices / (devices - 1) / total
    squares = scale * (away**2).sum(axis=0)
    by_bin[used] = np.maximum(1.0, squares / (p[used] * (1 - p[used])))
    trace = float((squares / p[used]).sum())
    directions = int(used.sum()) - 1
    effect = trace / directions
    if effect <= 1.0:
        return Clustering(devices, 1.0, 0.0, by_bin)
    z = away / np.sqrt(p[used])
    # Both products have the same norm; the smaller one is cheaper.
    product = z @ z.T if devices <= z.shape[1] else z.T @ z
    norm = float((product**2).sum()) * scale**2
    freedom = devices - 1
    norm = (norm - trace**2 / freedom) / (1 + 1 / freedom)
    unevenness = max(0.0, norm / directions / effect**2 - 1)
    return Clustering(devices, effect, min(unevenness, directions - 1.0), by_bin)


@dataclass(frozen=True)
class SampleSide:
    """One side of a comparison: its counts and what they are worth.

    Attributes:
        counts: float64 of shape (B,), records as counted.
        effect: how many of them are worth one independent record.
        unevenness: see `Clustering`.
        clusters: devices (or groups of devices) behind the figures; 0 where each record stands for
            itself, as in a data set.
    """

    counts: NDArray[np.float64]
    effect: float = 1.0
    unevenness: float = 0.0
    clusters: int = 0

    @property
    def n_eff(self) -> float:
        """Effective records."""
        return float(self.counts.sum()) / self.effect

    @property
    def effective(self) -> NDArray[np.float64]:
        """Effective counts per bin."""
        return self.counts / self.effect


def describe_side(table: NDArray[Any] | None, counts: Counts) -> SampleSide:
    """A side whose clustering `table` shows; with fewer than two rows, records stand alone."""
    values = np.asarray(counts, dtype=float)
    found = measure_clustering(table) if table is not None and len(table) else None
    if found is None:
        return SampleSide(values)
    return SampleSide(values, found.effect, found.unevenness, found.devices)
