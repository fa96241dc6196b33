"""Which devices changed, each against its own past; and whether so many may have by chance.

A few devices that fail altogether hardly move a figure of the whole fleet, and the difference
between them and the others makes the fleet's records look worth little. Seen device by device they
are plain. Each device is tested by Fisher's exact test (Fisher, "The Design of Experiments", 1935),
the devices together by Benjamini and Hochberg (1995), and their share by the binomial test.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ingest.rules import bins
from ingest.rules import psi as drift
from ingest.rules.binning import coarse_table, plan_bins
from ingest.rules.windows import WindowCounts, sum_counts

LEVEL = 0.01
LEAST_CHANGE = 0.10
"""Points of share below which a change of one device is no news, however certain."""
LEAST_RECORDS = 8
ACROSS_DEVICES = 2.0
CONFIDENCE_MARGIN = 0.05
Table = NDArray[np.float64]


@dataclass(frozen=True)
class DeviceStory:
    """One device: what it did in the judged period, and before it in parts (may be empty)."""

    current: WindowCounts
    past: Sequence[WindowCounts] = ()


@dataclass(frozen=True)
class DeviceChange:
    """What the test says of one device; `p_value` is None where it could not be tested."""

    p_value: float | None = None
    is_changed: bool = False
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Family:
    """One metric of all devices: counts by category now and before."""

    name: str
    now: Table
    before: Table
    halves: tuple[Table, Table] | None = None
    harmful: tuple[int, ...] | None = None
    """Categories of which only more is harm; None for all."""


@dataclass
class _Found:
    p: Table
    change: Table
    name: str = field(default="")


def find_changed_devices(
    stories: Sequence[DeviceStory],
    *,
    error_limit: float,
    latency_ratio: float,
    reference_classes: Sequence[int] | None = None,
) -> list[DeviceChange]:
    """What changed on each device, in the order of `stories`.

    A device counts as changed when the false discovery rate over devices is held at 1 % and a share
    of its records moved by at least 10 points: that of one predicted class, of confidences below
    its own usual range, of latencies above `latency_ratio` times its own 95th percentile, or of
    failures above `error_limit`.

    Args:
        stories: all devices of one release; what is usual is learnt from them together.
        error_limit: tolerated share of failures.
        latency_ratio: tolerated ratio of latencies.
        reference_classes: counts by class that devices without a past are compared with.
    """
    if not stories:
        return []
    families = [
        _classes(stories, reference_classes),
        _confidence(stories),
        _latency(stories, latency_ratio),
    ]
    tested = [_test(family) for family in families if family is not None]
    tested.append(_errors(stories, error_limit))
    p = np.vstack([item.p for item in tested])
    has: NDArray[np.bool_] = np.asarray(np.isfinite(p).any(axis=0))
    count = np.maximum(np.isfinite(p).sum(axis=0), 1)
    together = np.minimum(np.nanmin(np.where(np.isfinite(p), p, 1.0), axis=0) * count, 1.0)
    q = np.ones(len(stories))
    if has.any():
        q[has] = stats.false_discovery_control(together[has])
    changes = []
    for index in range(len(stories)):
        metrics = [
            item.name
            for item in sorted(tested, key=lambda item: item.p[index])
            if item.p[index] * count[index] <= LEVEL and item.change[index] >= LEAST_CHANGE
        ]
        is_changed = bool(q[index] <= LEVEL and metrics)
        changes.append(
            DeviceChange(
                float(together[index]) if has[index] else None,
                is_changed,
                tuple(metrics) if is_changed else (),
            )
        )
    return changes


def _rows(
    parts: Sequence[WindowCounts], take: Callable[[WindowCounts], Sequence[int]], width: int
) -> Table:
    table = np.zeros((len(parts), width))
    for index, part in enumerate(parts):
        row = take(part)
        table[index, : min(width, len(row))] = row[:width]
    return table


def _pasts(stories: Sequence[DeviceStory]) -> tuple[list[WindowCounts], list[WindowCounts]]:
    """The earlier and the later half of each device's past."""
    early, late = [], []
    for story in stories:
        middle = len(story.past) // 2
        early.append(sum_counts(story.past[:middle]))
        late.append(sum_counts(story.past[middle:]))
    return early, late


def _classes(stories: Sequence[DeviceStory], reference: Sequence[int] | None) -> _Family | None:
    early, late = _pasts(stories)
    now = [story.current for story in stories]
    width = max([len(part.classes) for part in (*now, *early, *late)], default=0)
    if not width:
        return None
    halves = tuple(_rows(part, lambda item: item.classes, width) for part in (early, late))
    before = halves[0] + halves[1]
    table = _rows(now, lambda item: item.classes, width)
    has_past = before.sum(axis=1) >= LEAST_RECORDS
    if not has_past.any() and reference is not None:
        row = np.zeros(width)
        row[: min(width, len(reference))] = reference[:width]
        return _Family("prediction_psi", table, np.tile(row, (len(table), 1)))
    return _Family("prediction_psi", table, before, (halves[0], halves[1]))


def _confidence(stories: Sequence[DeviceStory]) -> _Family:
    """Confidences below the tenth percentile of the device's own past, less a margin."""
    early, late = _pasts(stories)
    parts = [_rows(p, lambda item: item.confidence, bins.CONFIDENCE_BINS) for p in (early, late)]
    before = parts[0] + parts[1]
    total = before.sum(axis=1, keepdims=True)
    at = (np.cumsum(before, axis=1) < 0.10 * total).sum(axis=1)
    edge = np.maximum(at - round(CONFIDENCE_MARGIN * bins.CONFIDENCE_BINS), 0)
    below = np.arange(bins.CONFIDENCE_BINS)[None, :] < edge[:, None]
    now = _rows([s.current for s in stories], lambda item: item.confidence, bins.CONFIDENCE_BINS)
    return _Family(
        "confidence_drop",
        _split(now, below),
        _split(before, below),
        (_split(parts[0], below), _split(parts[1], below)),
        harmful=(0,),
    )


def _split(table: Table, chosen: NDArray[np.bool_]) -> Table:
    inside = np.where(chosen, table, 0).sum(axis=1)
    return np.column_stack([inside, table.sum(axis=1) - inside])


def _latency(stories: Sequence[DeviceStory], ratio: float) -> _Family:
    """Latencies above `ratio` times the 95th percentile of the device's own past."""
    early, late = _pasts(stories)
    tables = [np.zeros((len(stories), 2)) for _ in range(3)]
    for index, (first, second, story) in enumerate(zip(early, late, stories, strict=True)):
        past = sum_counts([first, second]).latency
        limit = bins.latency_quantile_ms(past, 0.95)
        if limit is None:
            continue
        edge = bins.latency_bin(limit * ratio)
        for table, counts in zip(tables, (first, second, story.current), strict=True):
            above = sum(n for key, n in counts.latency.items() if key > edge)
            table[index] = above, sum(counts.latency.values()) - above
    return _Family(
        "latency_p95_ratio", tables[2], tables[0] + tables[1], (tables[0], tables[1]), harmful=(0,)
    )


def _errors(stories: Sequence[DeviceStory], limit: float) -> _Found:
    failures = np.array([story.current.errors for story in stories], dtype=float)
    n = np.array([story.current.n for story in stories], dtype=float)
    p = np.where(n >= LEAST_RECORDS, stats.binom.sf(failures - 1, np.maximum(n, 1), limit), np.nan)
    return _Found(p, failures / np.maximum(n, 1) - limit, "error_rate")


def _test(family: _Family) -> _Found:
    """Fisher's test of the most changed category, for each device, on effective counts."""
    scale = _usual_scatter(family)
    now, before = np.floor(family.now / scale), np.floor(family.before / scale)
    n_now, n_before = now.sum(axis=1), before.sum(axis=1)
    shares_now = family.now / np.maximum(family.now.sum(axis=1, keepdims=True), 1)
    shares_before = family.before / np.maximum(family.before.sum(axis=1, keepdims=True), 1)
    change = shares_now - shares_before
    if family.harmful is not None:
        masked = np.full_like(change, -1.0)
        masked[:, list(family.harmful)] = change[:, list(family.harmful)]
        change = masked
    # The share that grew most, in its own standard errors; one class must take what others lose.
    spread = np.sqrt(shares_before * (1 - shares_before) + 1 / np.maximum(n_before, 1)[:, None])
    most = np.argmax(change / spread, axis=1)
    row = np.arange(len(now))
    hits, all_hits = now[row, most], now[row, most] + before[row, most]
    p = stats.hypergeom.sf(hits - 1, n_now + n_before, all_hits, n_now)
    tried = 1 if family.harmful else np.maximum(((now + before) > 0).sum(axis=1), 1)
    enough = (family.now.sum(axis=1) >= LEAST_RECORDS) & (
        family.before.sum(axis=1) >= LEAST_RECORDS
    )
    return _Found(
        np.where(enough, np.minimum(p * tried, 1.0), np.nan), change[row, most], family.name
    )


def _usual_scatter(family: _Family) -> float:
    """How much more than by chance a device differs from itself without having changed.

    From both halves of the devices' pasts: the median of a two-sample chi-square over what it is
    under chance. Without pasts, from the calmer quarter of the devices against the reference.
    """
    first, second = family.halves or (family.before, family.now)
    plan = plan_bins(
        family.before.sum(axis=0), family.before.sum(axis=0), is_ordered=False, need=1.0
    ).plan
    if max(plan, default=0) > 20:
        plan = drift.merge_plan(family.before.sum(axis=0), is_ordered=False)
    a, b = coarse_table(first, plan), coarse_table(second, plan)
    n_a, n_b = a.sum(axis=1), b.sum(axis=1)
    usable = (n_a >= LEAST_RECORDS) & (n_b >= LEAST_RECORDS)
    if usable.sum() < 3:
        return 1.0
    a, b, n_a, n_b = a[usable], b[usable], n_a[usable, None], n_b[usable, None]
    together = (a + b) / (n_a + n_b)
    weight = n_a * n_b / (n_a + n_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(together > 0, weight * (a / n_a - b / n_b) ** 2 / together, 0.0)
    df = np.maximum((together > 0).sum(axis=1) - 1, 1)
    quantile = 0.5 if family.halves is not None else 0.25
    ratio = parts.sum(axis=1) / stats.chi2.ppf(quantile, df)
    # Across devices less is known than from each one's own past.
    caution = 1.0 if family.halves is not None else ACROSS_DEVICES
    return max(1.0, caution * float(np.quantile(ratio, quantile)))


def count_changes(changes: Sequence[DeviceChange]) -> tuple[int, int, Mapping[str, int]]:
    """Devices that changed, devices that were tested, and how many changed in each metric."""
    by_metric: dict[str, int] = {}
    for change in changes:
        for metric in change.metrics:
            by_metric[metric] = by_metric.get(metric, 0) + 1
    tested = sum(change.p_value is not None for change in changes)
    return sum(change.is_changed for change in changes), tested, by_metric
