"""One number a device for each gate metric, with what its records leave open; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingest.rules import bins
from ingest.rules.windows import WindowCounts

#: A 95th percentile of fewer latencies is that of its one or two slowest.
_MIN_LATENCIES = {0.5: 10, 0.95: 40}


@dataclass(frozen=True)
class DeviceMean:
    """`mean` of `n` records and the variance that they leave, > 0 but for rates."""

    n: int
    mean: float
    variance: float


@dataclass(frozen=True)
class Scale:
    """What a device's number is.

    Attributes:
        sign: −1 where a fall is worse.
        is_ratio: numbers are logarithms, so that differences are ratios.
        is_rate: numbers are shares of failures.
        is_by_hardware: each hardware class is judged on its own.
    """

    sign: float = 1.0
    is_ratio: bool = False
    is_rate: bool = False
    is_by_hardware: bool = False


@dataclass(frozen=True)
class Measure:
    """How a metric is read from a device's counts.

    Attributes:
        read: the device's number; None when its counts do not tell.
        baseline: the same of a version's baseline; None when it does not tell.
    """

    read: Callable[[WindowCounts], DeviceMean | None]
    baseline: Callable[[Mapping[str, Any]], float | None]
    scale: Scale


def rate_variance(parts: Sequence[DeviceMean]) -> float:
    """p (1 − p) of all `parts` together, with half a failure added (Jeffreys)."""
    total = sum(part.n for part in parts)
    share = (sum(part.n * part.mean for part in parts) + 0.5) / (total + 1)
    return float(share * (1 - share))


def read_confidence(counts: WindowCounts) -> DeviceMean | None:
    """Mean confidence, by the middles of the bins."""
    return _binned_mean(counts.confidence)


def read_errors(counts: WindowCounts) -> DeviceMean | None:
    """Share of inferences that failed."""
    return DeviceMean(counts.n, counts.errors / counts.n, 0.0) if counts.n else None


def read_nonfinite(counts: WindowCounts) -> DeviceMean | None:
    """Share of inferences whose output was no number."""
    return DeviceMean(counts.n, counts.nonfinite / counts.n, 0.0) if counts.n else None


def read_log_latency(counts: WindowCounts, quantile: float) -> DeviceMean | None:
    """Logarithm of a latency quantile, its variance by order statistics.

    The quantiles one standard error of the rank to either side span two of the quantile's
    (Serfling, "Approximation Theorems of Mathematical Statistics", 1980, sec. 2.6); bins add their
    own width.
    """
    return _log_quantile(counts.latency, quantile)


def _log_quantile(latency: Mapping[int, int], quantile: float) -> DeviceMean | None:
    n = sum(latency.values())
    if n < _MIN_LATENCIES[quantile]:
        return None
    step = math.sqrt(quantile * (1 - quantile) / n)
    middle, low, high = (
        bins.latency_quantile_ms(latency, min(max(at, 0.0), 1.0))
        for at in (quantile, quantile - step, quantile + step)
    )
    if not middle or not low or not high:
        return None
    spread = (math.log(high) - math.log(low)) / 2
    return DeviceMean(n, math.log(middle), spread**2 + math.log(bins.GAMMA) ** 2 / 12)


def _binned_mean(counts: Sequence[int]) -> DeviceMean | None:
    table = np.asarray(counts, dtype=float)
    n = float(table.sum())
    if n <= 0:
        return None
    middles = bins.confidence_midpoints()[: len(table)]
    mean = float((table * middles).sum() / n)
    # Within a bin a value may lie anywhere: the width's variance keeps equal values from certainty.
    variance = float((table * (middles - mean) ** 2).sum() / n) + 1 / (12 * bins.CONFIDENCE_BINS**2)
    return DeviceMean(int(n), mean, variance / n)


def _confidence_baseline(profile: Mapping[str, Any]) -> float | None:
    found = _binned_mean((profile.get("confidence") or {}).get("counts") or [])
    return found.mean if found else None


def _latency_baseline(profile: Mapping[str, Any], quantile: float) -> float | None:
    counts = (profile.get("latency") or {}).get("counts") or {}
    found = _log_quantile({int(key): value for key, value in counts.items()}, quantile)
    return found.mean if found else None


def _no_failures(_profile: Mapping[str, Any]) -> float:
    return 0.0


MEASURES: dict[str, Measure] = {
    "confidence_drop": Measure(read_confidence, _confidence_baseline, Scale(sign=-1.0)),
    "error_rate": Measure(read_errors, _no_failures, Scale(is_rate=True)),
    "nonfinite_rate": Measure(read_nonfinite, _no_failures, Scale(is_rate=True)),
    "latency_p50_ratio": Measure(
        lambda counts: read_log_latency(counts, 0.5),
        lambda profile: _latency_baseline(profile, 0.5),
        Scale(is_ratio=True, is_by_hardware=True),
    ),
    "latency_p95_ratio": Measure(
        lambda counts: read_log_latency(counts, 0.95),
        lambda profile: _latency_baseline(profile, 0.95),
        Scale(is_ratio=True, is_by_hardware=True),
    ),
}
