"""Counts the records of many batches at once: one pass over arrays, whatever the batches.

A *cell* is what one window is to hold of one device: all records of a device, a release and a
cohort in one span of time. Records of a cell may come from any number of batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet.rules.assignment import STABLE
from ingest.columns import COUNTED, NO_CLASS, RESTAMPED, TOO_OLD, Columns
from ingest.rules import bins
from ingest.rules.windows import NON_FINITE, WindowCounts

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CellKey:
    """Which window; `start` in Unix seconds."""

    device_id: int
    version_id: int
    variant_id: int | None
    cohort: str
    start: int


@dataclass(frozen=True)
class Batch:
    """What one device sent at once.

    Attributes:
        cohorts: model id to the side of a rollout on which the device was.
    """

    device_id: int
    columns: Columns
    cohorts: Mapping[int, str]


@dataclass(frozen=True)
class FeatureBins:
    """By which edges the features of a release are counted, in their order in a record."""

    names: tuple[str, ...]
    edges: tuple[Floats, ...]


def count_batches(
    batches: Sequence[Batch],
    *,
    seconds: int,
    features: Mapping[tuple[int, int | None], FeatureBins | None],
) -> dict[CellKey, WindowCounts]:
    """The counts of all `batches` by cell; records that are too old, or counted by the device, are
    in none.

    Args:
        seconds: length of a window.
        features: by version and variant; None or absent where features are not counted.

    Raises:
        ValueError: a latency or a time that no check would have let through.
    """
    if not batches:
        return {}
    sources, source_of = _sources(batches)
    at = np.concatenate([batch.columns.at for batch in batches])
    flags = np.concatenate([batch.columns.flags for batch in batches])
    latency = np.concatenate([batch.columns.latency_ms for batch in batches])
    if not bool(((latency >= 0) & (latency <= bins.LATENCY_MAX_MS)).all()):
        raise ValueError("latency_ms is out of range")
    if not bool(((at >= 0) & (at < 1e11)).all()):
        raise ValueError("a time is out of range")
    starts = (at // seconds).astype(np.int64) * seconds
    is_used = (flags & (TOO_OLD | COUNTED)) == 0
    if not is_used.any():
        return {}
    pairs = np.stack([source_of[is_used], starts[is_used]], axis=1)
    cells, cell_used = np.unique(pairs, axis=0, return_inverse=True)
    cell = np.full(len(at), -1, np.int64)
    cell[is_used] = cell_used.reshape(-1)
    counted = _Counter(batches, cell, len(cells))
    counts = counted.count(latency, flags, [sources[number] for number in cells[:, 0]], features)
    keys = []
    for number, start in cells.tolist():
        device, version, variant, cohort, _ = sources[number]
        keys.append(CellKey(device, version, variant, cohort, start))
    return dict(zip(keys, counts, strict=True))


#: Device, version, variant, cohort and labels.
_Source = tuple[int, int, int | None, str, int]


def _sources(batches: Sequence[Batch]) -> tuple[list[_Source], Ints]:
    """Each pair of device and release once, and which of them each record is of."""
    numbers: dict[_Source, int] = {}
    parts = []
    for batch in batches:
        of_release = [
            numbers.setdefault(
                (
                    batch.device_id, version, variant,
                    batch.cohorts.get(model, STABLE), labels,
                ),
                len(numbers),
            )
            for version, variant, model, labels in batch.columns.releases
        ]  # fmt: skip
        parts.append(np.array(of_release, np.int64)[batch.columns.release])
    return list(numbers), np.concatenate(parts)


class _Counter:
    """Counts by cell; `cell` is -1 for a record that is not counted."""

    def __init__(self, batches: Sequence[Batch], cell: Ints, cells: int) -> None:
        self._batches = batches
        self._cell = cell
        self._cells = cells

    def count(
        self,
        latency: Floats,
        flags: NDArray[np.uint8],
        sources: Sequence[_Source],
        features: Mapping[tuple[int, int | None], FeatureBins | None],
    ) -> list[WindowCounts]:
        columns = [batch.columns for batch in self._batches]
        is_failed = np.concatenate([part.error > 0 for part in columns])
        is_nonfinite = np.concatenate([_are(part, NON_FINITE) for part in columns])
        confidence = np.concatenate([part.confidence for part in columns])
        classes = np.concatenate([part.class_id for part in columns])
        in_cell = self._cell >= 0
        # A failed inference has no latency worth comparing; its confidence is not trusted.
        good = in_cell & ~is_failed
        sure = good & ~np.isnan(confidence)
        labels = np.array([source[4] for source in sources])
        known = np.minimum(classes, labels[self._cell])
        result = [
            WindowCounts(n=n, errors=e, nonfinite=f, restamped=r, latency_n=ln, confidence_n=cn)
            for n, e, f, r, ln, cn in zip(
                self._number(in_cell),
                self._number(in_cell & is_failed),
                self._number(in_cell & is_nonfinite),
                self._number(in_cell & ((flags & RESTAMPED) > 0)),
                self._number(good),
                self._number(sure),
                strict=True,
            )
        ]
        for name, values, chosen in (
            ("latency", latency, good), ("confidence", confidence, sure),
        ):  # fmt: skip
            sums = self._sum(values, chosen), self._sum(values * values, chosen)
            for counts, total, squares in zip(result, *sums, strict=True):
                setattr(counts, f"{name}_sum", total)
                setattr(counts, f"{name}_sum_squares", squares)
        for cell, index, number in self._tally(bins.latency_bins(latency), good):
            result[cell].latency[index] = number
        for cell, index, number in self._tally(bins.confidence_bins(confidence), sure):
            if not result[cell].confidence:
                result[cell].confidence = [0] * bins.CONFIDENCE_BINS
            result[cell].confidence[index] = number
        for cell, index, number in self._tally(known, good & (classes != NO_CLASS)):
            if not result[cell].classes:
                result[cell].classes = [0] * (sources[cell][4] + 1)
            result[cell].classes[index] = number
        self._count_features(result, good, sources, features)
        return result

    def _number(self, chosen: NDArray[np.bool_]) -> list[int]:
        counts: list[int] = np.bincount(self._cell[chosen], minlength=self._cells).tolist()
        return counts

    def _sum(self, values: Floats, chosen: NDArray[np.bool_]) -> list[float]:
        sums: list[float] = np.bincount(
            self._cell[chosen], weights=values[chosen], minlength=self._cells
        ).tolist()
        return sums

    def _tally(self, index: Ints, chosen: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
        """Cell, bin and count of each bin that is not empty."""
        where = index[chosen]
        if not len(where):
            return []
        low = int(where.min())
        width = int(where.max()) - low + 1
        flat, counts = np.unique(self._cell[chosen] * width + (where - low), return_counts=True)
        cells, indices = np.divmod(flat, width)
        return list(zip(cells.tolist(), (indices + low).tolist(), counts.tolist(), strict=True))

    def _count_features(
        self,
        result: list[WindowCounts],
        good: NDArray[np.bool_],
        sources: Sequence[_Source],
        features: Mapping[tuple[int, int | None], FeatureBins | None],
    ) -> None:
        widths = np.concatenate([batch.columns.widths for batch in self._batches])
        values = np.concatenate([batch.columns.features for batch in self._batches])
        begins = np.cumsum(widths) - widths
        releases: dict[tuple[int, int | None], list[int]] = {}
        for cell, source in enumerate(sources):
            releases.setdefault((source[1], source[2]), []).append(cell)
        for release, cells in releases.items():
            found = features.get(release)
            if found is None:
                continue
            is_here = np.zeros(self._cells, bool)
            is_here[cells] = True
            # A width of the declared number; a record of another one is counted without features.
            chosen = good & (widths == len(found.names))
            chosen &= is_here[self._cell]
            at = begins[chosen]
            for number, (name, edges) in enumerate(zip(found.names, found.edges, strict=True)):
                index = np.full(len(good), 0, np.int64)
                index[chosen] = np.searchsorted(edges, values[at + number], "right")
                for cell, where, count in self._tally(index, chosen):
                    row = result[cell].features.setdefault(name, [0] * (len(edges) + 1))
                    row[where] = count


def _are(columns: Columns, text: str) -> NDArray[np.bool_]:
    """Where the error is `text`."""
    if text not in columns.errors:
        return np.zeros(len(columns), bool)
    found: NDArray[np.bool_] = columns.error == columns.errors.index(text)
    return found


def feature_bins(profile: Mapping[str, Any], suffix: str) -> FeatureBins | None:
    """The bins that a baseline's profile declares; None where it declares none.

    Args:
        suffix: ends each feature's name, so that counts by other edges never mix.
    """
    declared = profile.get("features") or []
    if not declared:
        return None
    return FeatureBins(
        tuple(feature["name"] + suffix for feature in declared),
        tuple(np.asarray(feature["edges"], np.float64) for feature in declared),
    )
