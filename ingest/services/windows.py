"""Adds counts to windows: a few statements for any number of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from ingest.models import Window
from ingest.rules.counting import CellKey
from ingest.rules.windows import WindowCounts, merge_counts
from ingest.services.rollups import append_rollups

KEYS_PER_STEP = 1_000
_KEY = ("device_id", "version_id", "variant_key", "cohort", "start")
_Row = tuple[int, int, int, str, datetime]


def add_to_windows(added: Mapping[CellKey, WindowCounts]) -> None:
    """Adds `added` to the windows of their keys; inside a transaction only.

    Rows are made, then locked, always in the same order, so that two workers cannot wait for each
    other in a circle; six statements for a thousand windows and their roll-ups.
    """
    rows = {_row_of(key): (key, counts) for key, counts in added.items()}
    ordered = sorted(rows)
    for at in range(0, len(ordered), KEYS_PER_STEP):
        part = ordered[at : at + KEYS_PER_STEP]
        there = set(_find(part).values_list(*_KEY))
        missing = [row for row in part if row not in there]
        Window.objects.bulk_create(
            (_window(row, rows[row][0], WindowCounts()) for row in missing), ignore_conflicts=True
        )
        found = _find(part).order_by(*_KEY).select_for_update().values_list(*_KEY, "counts")
        merged = []
        for *values, counts in found:
            row = (values[0], values[1], values[2], values[3], values[4])
            if row in rows:
                key, new = rows[row]
                total = merge_counts(WindowCounts.from_json(counts), new)
                merged.append(_window(row, key, total))
        Window.objects.bulk_create(
            merged,
            update_conflicts=True,
            unique_fields=["device", "version", "variant_key", "cohort", "start", "seconds"],
            update_fields=["n", "errors", "counts", "updated_at"],
        )
        append_rollups({rows[row][0]: rows[row][1] for row in part})


def _row_of(key: CellKey) -> _Row:
    start = datetime.fromtimestamp(key.start, UTC)
    return key.device_id, key.version_id, key.variant_id or 0, key.cohort, start


def _find(rows: Sequence[_Row]) -> QuerySet[Window]:
    """The windows of these devices in these spans, whatever the release."""
    devices: dict[datetime, set[int]] = defaultdict(set)
    for row in rows:
        devices[row[4]].add(row[0])
    chosen = Q()
    for start, ids in devices.items():
        chosen |= Q(start=start, device_id__in=sorted(ids))
    return Window.objects.filter(chosen, seconds=settings.AVIARY_WINDOW_SECONDS)


def _window(row: _Row, key: CellKey, counts: WindowCounts) -> Window:
    return Window(
        device_id=key.device_id,
        version_id=key.version_id,
        variant_id=key.variant_id,
        variant_key=row[2],
        cohort=key.cohort,
        start=row[4],
        seconds=settings.AVIARY_WINDOW_SECONDS,
        n=counts.n,
        errors=counts.errors,
        counts=counts.to_json(),
        updated_at=timezone.now(),
    )
