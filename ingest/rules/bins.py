"""Fixed bins: the only form in which records are counted, so that counts merge by addition.

Confidence has 64 equal-width bins over [0, 1]. Latency has logarithmic bins of ratio `GAMMA`, which
bounds the relative error of any quantile by (GAMMA - 1) / 2 (Masson, Rim and Lee, "DDSketch", VLDB
2019, section 2). Features use the edges of the version's baseline.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_BINS = 64
GAMMA = 1.05
LATENCY_MIN_MS = 0.001
LATENCY_MAX_MS = 86_400_000.0
_LOG_GAMMA = math.log(GAMMA)
LATENCY_MIN_BIN = math.floor(math.log(LATENCY_MIN_MS) / _LOG_GAMMA)
LATENCY_MAX_BIN = math.floor(math.log(LATENCY_MAX_MS) / _LOG_GAMMA)


def confidence_bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of `CONFIDENCE_BINS` equal bins holds each value of 0 ... 1; 1.0 is in the last.

    NaN has no bin: what stands there means nothing.
    """
    index = np.nan_to_num(values * CONFIDENCE_BINS).astype(np.int64)
    return np.minimum(index, CONFIDENCE_BINS - 1)


def confidence_counts(values: Iterable[float]) -> list[int]:
    """Counts of `values` (each 0 ... 1) by `confidence_bins`."""
    index = confidence_bins(np.fromiter(values, dtype=float))
    counts: list[int] = np.bincount(index, minlength=CONFIDENCE_BINS).tolist()
    return counts


def confidence_midpoints() -> NDArray[np.float64]:
    """The value that stands for each confidence bin, float64 of shape (CONFIDENCE_BINS,)."""
    return (np.arange(CONFIDENCE_BINS) + 0.5) / CONFIDENCE_BINS


def latency_bin(latency_ms: float) -> int:
    """Index i with GAMMA**i <= latency < GAMMA**(i + 1); clamped below 1 us and above a day."""
    if latency_ms <= LATENCY_MIN_MS:
        return LATENCY_MIN_BIN
    return min(math.floor(math.log(latency_ms) / _LOG_GAMMA), LATENCY_MAX_BIN)


def latency_bins(latency_ms: NDArray[np.float64]) -> NDArray[np.int64]:
    """`latency_bin` of each value, all of them finite."""
    index = np.floor(np.log(np.maximum(latency_ms, LATENCY_MIN_MS)) / _LOG_GAMMA).astype(np.int64)
    index[latency_ms <= LATENCY_MIN_MS] = LATENCY_MIN_BIN
    return np.minimum(index, LATENCY_MAX_BIN)


def latency_counts(values: Iterable[float]) -> dict[int, int]:
    """Counts of `values` in milliseconds by latency bin; bins without a value are absent."""
    counts: dict[int, int] = {}
    for value in values:
        index = latency_bin(value)
        counts[index] = counts.get(index, 0) + 1
    return counts


def latency_value_ms(index: int) -> float:
    """The latency that stands for a bin: the geometric middle of its edges."""
    return float(GAMMA ** (index + 0.5))


def latency_quantile_ms(counts: Mapping[int, int], quantile: float) -> float | None:
    """The `quantile` (0 ... 1) of binned latencies in milliseconds; None without any count."""
    total = sum(counts.values())
    if total <= 0:
        return None
    rank = quantile * (total - 1)
    seen = 0
    last = 0
    for index in sorted(counts):
        seen += counts[index]
        last = index
        if seen > rank:
            break
    return latency_value_ms(last)


def class_counts(values: Iterable[int], labels: int) -> list[int]:
    """Counts by class for a label map of `labels` entries; the last entry holds all others."""
    counts = [0] * (labels + 1)
    for value in values:
        counts[value if 0 <= value < labels else labels] += 1
    return counts


def feature_counts(values: Iterable[float], edges: Sequence[float]) -> list[int]:
    """Counts of `values` between `edges`: entry i holds edges[i - 1] <= value < edges[i]."""
    index = np.searchsorted(np.asarray(edges, dtype=float), np.fromiter(values, float), "right")
    counts: list[int] = np.bincount(index, minlength=len(edges) + 1).tolist()
    return counts
