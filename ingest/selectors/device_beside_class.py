"""A device's own latency and confidence beside those of other devices with the same hardware."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from fleet.models import Device
from ingest.models import Window
from ingest.rules.windows import WindowCounts, merge_counts
from ingest.selectors.summaries import latency_fields

PERIOD = timedelta(hours=24)
MAX_WINDOWS = 2000
"""Windows read of the others at most, the newest: enough for a comparison in any fleet."""


def compare_with_class(device: Device, now: datetime) -> dict[str, Any]:
    """Per release that the device reported on in the last day: its own numbers and its class's.

    Three queries, whatever the fleet. `hardware_class` is None when the device names none; all
    other devices are then its class.
    """
    since = now - PERIOD
    own: dict[tuple[str, str, str], WindowCounts] = defaultdict(WindowCounts)
    versions: set[int] = set()
    mine = Window.objects.filter(device=device, start__gte=since)
    for row in mine.select_related("version__model", "variant").order_by("-start")[:MAX_WINDOWS]:
        key = _key(row)
        own[key] = merge_counts(own[key], WindowCounts.from_json(row.counts))
        versions.add(row.version_id)
    hardware = device.selectable.get("hardware_class")
    others: dict[tuple[str, str, str], WindowCounts] = defaultdict(WindowCounts)
    devices: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    if own:
        theirs = Window.objects.filter(version__in=versions, start__gte=since)
        rows = list(
            theirs.exclude(device=device)
            .select_related("version__model", "variant", "device")
            .order_by("-start", "-id")[:MAX_WINDOWS]
        )
        for row in rows:
            if hardware and row.device.selectable.get("hardware_class") != hardware:
                continue
            key = _key(row)
            others[key] = merge_counts(others[key], WindowCounts.from_json(row.counts))
            devices[key].add(row.device_id)
    return {
        "hardware_class": hardware,
        "hours": int(PERIOD.total_seconds() // 3600),
        "rows": [
            {
                "release": f"{key[0]} {key[1]}{f' · {key[2]}' if key[2] else ''}",
                "own": _numbers(own[key]),
                "others": _numbers(others[key]) if key in others else None,
                "devices": len(devices[key]),
            }
            for key in sorted(own)
        ],
    }


def _key(row: Window) -> tuple[str, str, str]:
    return row.version.model.slug, row.version.version, row.variant.name if row.variant else ""


def _numbers(counts: WindowCounts) -> dict[str, float | None]:
    n = counts.n
    return {
        "n": n,
        "error_percent": 100 * counts.errors / n if n else None,
        "confidence": counts.confidence_sum / counts.confidence_n if counts.confidence_n else None,
        **latency_fields(counts),
    }
