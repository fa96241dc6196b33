"""How far apart two distributions are, from counts: pure functions, and without numpy."""

import itertools
import math
from collections.abc import Sequence

REFERENCE_FLOOR = 1e-3
PRIOR = 0.5
"""Half a record added to each bin (Jeffreys), so that an empty bin is not infinitely far."""
MAX_CLASS_BINS = 12
"""More would be noise at the few hundred records of a look."""


def psi(reference: Sequence[float], recent: Sequence[float]) -> float:
    """Population stability index, sum (q - p) ln(q / p), of `recent` against `reference` counts
    over the same bins; 0 without either."""
    total, known = math.fsum(recent), math.fsum(reference)
    if total <= 0 or known <= 0:
        return 0.0
    bins = len(reference)
    floor = 1.0 + bins * REFERENCE_FLOOR
    distance = 0.0
    for before, now in zip(reference, recent, strict=True):
        p = (before / known + REFERENCE_FLOOR) / floor
        q = (now + PRIOR) / (total + PRIOR * bins)
        distance += (q - p) * math.log(q / p)
    return distance


def psi_bias(bins: int, effective: float, reference_effective: float) -> float:
    """What PSI is on the mean when nothing has changed: (B - 1)(1/N + 1/M), for under that it is
    (1/N + 1/M) times a chi-square of B - 1 degrees (Yurdakul and Naranjo 2020, J. Risk Model
    Validation 14). N and M are effective records."""
    if effective <= 0 or reference_effective <= 0:
        return 0.0
    return (bins - 1) * (1.0 / effective + 1.0 / reference_effective)


def moments_of(edges: Sequence[float], counts: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a feature from its bins, each at the middle of its edges; the
    two open bins at the ends count at their edge."""
    middles = [edges[0], *((a + b) / 2 for a, b in itertools.pairwise(edges)), edges[-1]]
    total = math.fsum(counts)
    if len(counts) != len(middles) or total <= 0:
        raise ValueError(f"expected {len(middles)} counts for {len(edges)} edges")
    mean = math.fsum(w * x for w, x in zip(counts, middles, strict=True)) / total
    spread = math.fsum(w * (x - mean) ** 2 for w, x in zip(counts, middles, strict=True)) / total
    return mean, math.sqrt(spread)


def coarsen(
    edges: Sequence[float], counts: Sequence[float], *, keep: int
) -> tuple[list[float], list[float]]:
    """`counts` merged into `keep` bins of neighbours, and the edges left between them.

    A device sees hundreds of records, not millions: with 64 bins it would measure noise.
    """
    size = len(counts)
    groups = min(keep, size)
    ends = [(index + 1) * size // groups for index in range(groups)]
    starts = [0, *ends[:-1]]
    merged = [math.fsum(counts[a:b]) for a, b in zip(starts, ends, strict=True)]
    return [float(edges[end - 1]) for end in ends[:-1]], merged


def group_classes(counts: Sequence[float]) -> list[int]:
    """The bin of each class, at most MAX_CLASS_BINS of them.

    With many classes a bin is a group of about equal reference mass; a class that is common enough
    has one of its own.
    """
    if len(counts) <= MAX_CLASS_BINS:
        return list(range(len(counts)))
    total = math.fsum(counts) or 1.0
    bins = [0] * len(counts)
    order = sorted(range(len(counts)), key=lambda index: -counts[index])
    number, filled, left, free = 0, 0.0, total, MAX_CLASS_BINS
    for index in order:
        if filled > 0 and filled + counts[index] > left / free and free > 1:
            number, left, free, filled = number + 1, left - filled, free - 1, 0.0
        bins[index] = number
        filled += counts[index]
    return bins


def expected_run(counts: Sequence[float]) -> float:
    """Mean length of the run that a record lies in, were records independent: sum of
    p (1 + p)/(1 - p) over the classes, for a class's runs are geometric then."""
    total = math.fsum(counts)
    if total <= 0:
        return 1.0
    mean = 0.0
    for count in counts:
        share = min(count / total, 1.0 - 1.0 / (total + 1.0))
        mean += share * (1.0 + share) / (1.0 - share)
    return max(mean, 1.0)
