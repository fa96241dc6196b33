"""Roll-ups, read back by release, cell and span of time; no device is read."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Min, Q

from ingest.models import Incident, IncidentFinding, RollUp
from ingest.rules.clusters import Clusters, merge_clusters, unpack
from ingest.rules.same_hours import LONG_WINDOWS, PARTS, PREFIX, days_back
from ingest.selectors.releases import baseline_of
from registry.models import Baseline

Span = tuple[datetime, datetime]
Cells = Mapping[str, Clusters]
"""The counts of each cell; see `RollUp.cell`."""


@dataclass
class ReleaseCells:
    """A version's devices in a period that are judged by one reference.

    `own_variant` is set where the reference belongs to that variant alone.
    """

    version_id: int
    own_variant: int | None
    baseline: Baseline | None
    cells: dict[str, Clusters]


@dataclass(frozen=True)
class CellHours:
    """The last window, and all `LONG_WINDOWS` up to its end, of each cell."""

    last: Cells
    long: Cells


class Baselines:
    """Which reference a version's variant is judged by; each is asked for once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int | None], Baseline | None] = {}

    def find(self, version_id: int, variant_id: int | None) -> Baseline | None:
        key = (version_id, variant_id)
        if key not in self._known:
            self._known[key] = baseline_of(version_id, variant_id)
        return self._known[key]

    def owner(self, version_id: int, variant_id: int | None) -> int | None:
        """The variant that the reference belongs to alone."""
        found = self.find(version_id, variant_id)
        return found.variant_id if found else None


def read_releases(
    model_id: int, start: datetime, end: datetime, baselines: Baselines
) -> list[ReleaseCells]:
    """What is judged together of a model in [start, end), most records first."""
    parts: dict[tuple[int, int | None], dict[str, list[Clusters]]] = {}
    of: dict[tuple[int, int | None], Baseline | None] = {}
    rows = RollUp.objects.between(start, end).filter(version__model_id=model_id).order_by()
    values = rows.values_list("version_id", "variant_id", "cell", "data")
    for version, variant, cell, data in values.iterator(chunk_size=2_000):
        key = (version, baselines.owner(version, variant))
        of[key] = baselines.find(version, variant)
        parts.setdefault(key, defaultdict(list))[cell].append(unpack(bytes(data)))
    found = [
        ReleaseCells(version, owner, of[version, owner], _merged(cells))
        for (version, owner), cells in parts.items()
    ]
    return sorted(found, key=lambda r: -sum(cell.total("n") for cell in r.cells.values()))


def read_hours(
    release: ReleaseCells, end: datetime, window: timedelta, baselines: Baselines
) -> list[CellHours]:
    """The hours up to `end`, and those of each of the days that they are compared with."""
    # Only what these comparisons found themselves: another incident may stand for months.
    found = IncidentFinding.objects.filter(
        version_id=release.version_id,
        metric__startswith=PREFIX,
        status__in=Incident.OPEN_STATUSES,
    ).aggregate(Min("opened_at"))["opened_at__min"]
    onset = None if found is None else found - 2 * window
    ends = [end, *(end - back for back in days_back(end, onset, window))]
    inside = Q()
    for at in ends:
        inside |= Q(start__gte=at - LONG_WINDOWS * window, start__lt=at)
    rows = RollUp.objects.filter(inside, version_id=release.version_id).order_by()
    last: list[dict[str, list[Clusters]]] = [defaultdict(list) for _ in ends]
    long: list[dict[str, list[Clusters]]] = [defaultdict(list) for _ in ends]
    values = rows.values_list("variant_id", "cell", "start", "data")
    for variant, cell, start, data in values.iterator(chunk_size=2_000):
        if cell not in release.cells:
            continue
        if baselines.owner(release.version_id, variant) != release.own_variant:
            continue
        counts = unpack(bytes(data), PARTS)
        for number, at in enumerate(ends):
            if at - LONG_WINDOWS * window <= start < at:
                long[number][cell].append(counts)
                if start >= at - window:
                    last[number][cell].append(counts)
    return [CellHours(_merged(a), _merged(b)) for a, b in zip(last, long, strict=True)]


def sum_rollups(version_id: int, start: datetime, end: datetime) -> Clusters:
    """All that devices saw of a version in [start, end)."""
    rows = RollUp.objects.between(start, end).filter(version_id=version_id).order_by()
    return merge_clusters(unpack(bytes(data)) for data in rows.values_list("data", flat=True))


def slices_of_cells(cells: Sequence[str]) -> dict[str, list[str]]:
    """The cells of `all`, and of each value of each label that they carry."""
    slices: dict[str, list[str]] = {"all": list(cells)}
    labelled: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        for label, value in json.loads(cell).items():
            labelled[f"{label}={value}"[:200]].append(cell)
    return slices | dict(sorted(labelled.items()))


def _merged(cells: Mapping[str, Sequence[Clusters]]) -> dict[str, Clusters]:
    return {cell: merge_clusters(parts) for cell, parts in sorted(cells.items())}
