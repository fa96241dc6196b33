"""Appends what is counted to the roll-ups, and puts their parts together."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from django.conf import settings
from django.db import connection, transaction

from fleet.models import Device
from ingest.models import RollUp
from ingest.rules.clusters import Clusters, clusters_of, merge_clusters, unpack
from ingest.rules.counting import CellKey
from ingest.rules.windows import WindowCounts

SLICE_LABELS = ("site", "hardware_class")
_Key = tuple[int, int | None, str, int, str]


def append_rollups(added: Mapping[CellKey, WindowCounts]) -> None:
    """Appends `added` to the roll-ups; inside the transaction that counts it only.

    Two statements, and no row that another transaction could hold.
    """
    cells = cells_of_devices({key.device_id for key in added})
    found: dict[_Key, dict[int, WindowCounts]] = defaultdict(dict)
    for key, counts in added.items():
        cell = cells.get(key.device_id, "{}")
        of = (key.version_id, key.variant_id, key.cohort, key.start, cell)
        found[of][key.device_id] = counts
    RollUp.objects.bulk_create(
        _row(key, clusters_of(devices), is_part=True) for key, devices in found.items()
    )


def cells_of_devices(ids: Collection[int]) -> dict[int, str]:
    """The cell of each device: its values of `SLICE_LABELS`; one query."""
    devices = Device.objects.filter(pk__in=ids).only("device_id", "labels", "attributes")
    cells = {}
    for device in devices:
        labels = device.selectable
        told = {name: str(labels[name]) for name in SLICE_LABELS if labels.get(name)}
        cells[device.pk] = json.dumps(told, sort_keys=True)
    return cells


def compact_rollups(*, limit: int = 1_000) -> int:
    """Puts up to `limit` parts together with what their keys have already; how many.

    Whoever reads meanwhile finds the parts or their sum, never both.
    """
    with transaction.atomic():
        skips = connection.features.has_select_for_update_skip_locked
        parts = list(
            RollUp.objects.filter(is_part=True)
            .order_by("id")
            .select_for_update(skip_locked=skips)[:limit]
        )
        grouped: dict[_Key, list[RollUp]] = defaultdict(list)
        for part in parts:
            grouped[_key(part)].append(part)
        # Of another sweep that runs beside this one each sees only its own: both sums stay.
        whole = RollUp.objects.filter(
            is_part=False,
            version__in={part.version_id for part in parts},
            start__in={part.start for part in parts},
        )
        for row in whole.order_by("id").select_for_update(skip_locked=skips):
            if _key(row) in grouped:
                grouped[_key(row)].append(row)
        RollUp.objects.bulk_create(
            _row(key, merge_clusters(unpack(bytes(row.data)) for row in rows), is_part=False)
            for key, rows in grouped.items()
        )
        RollUp.objects.filter(pk__in=[row.pk for rows in grouped.values() for row in rows]).delete()
    return len(parts)


def _key(row: RollUp) -> _Key:
    return row.version_id, row.variant_id, row.cohort, int(row.start.timestamp()), row.cell


def _row(key: _Key, clusters: Clusters, *, is_part: bool) -> RollUp:
    return RollUp(
        version_id=key[0],
        variant_id=key[1],
        cohort=key[2],
        start=datetime.fromtimestamp(key[3], UTC),
        cell=key[4],
        seconds=settings.AVIARY_WINDOW_SECONDS,
        data=clusters.pack(),
        is_part=is_part,
    )
