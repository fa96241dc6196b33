"""Device windows, read back and summed per device."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleet.models import Device
from ingest.models import Window
from ingest.rules.windows import WindowCounts, sum_counts

SLICE_LABELS = ("site", "hardware_class")


@dataclass
class ReleaseWindows:
    """All devices of one release in a period."""

    version_id: int
    variant_id: int | None
    devices: dict[int, WindowCounts] = field(default_factory=dict)


def sum_by_device(windows: Iterable[Window]) -> dict[int, WindowCounts]:
    """Device row id to its counts over all `windows`."""
    parts: dict[int, list[WindowCounts]] = defaultdict(list)
    for window in windows:
        parts[window.device_id].append(WindowCounts.from_json(window.counts))
    return {device: sum_counts(counts) for device, counts in parts.items()}


def release_windows(model_id: int, start: datetime, end: datetime) -> list[ReleaseWindows]:
    """Each release of a model with windows in [start, end), most records first."""
    grouped: dict[tuple[int, int | None], list[Window]] = defaultdict(list)
    rows = Window.objects.between(start, end).filter(version__model_id=model_id)
    for window in rows.order_by("device_id", "id").iterator(chunk_size=2000):
        grouped[(window.version_id, window.variant_id)].append(window)
    found = [
        ReleaseWindows(version, variant, sum_by_device(windows))
        for (version, variant), windows in grouped.items()
    ]
    return sorted(found, key=lambda release: -sum(d.n for d in release.devices.values()))


def slice_members(devices: Iterable[int]) -> dict[str, list[int]]:
    """Device row ids of `all`, and of each value of each of `SLICE_LABELS` that devices carry."""
    ids = list(devices)
    slices: dict[str, list[int]] = {"all": ids}
    labelled: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for device in Device.objects.filter(pk__in=ids).only("device_id", "labels", "attributes"):
        labels: dict[str, Any] = device.selectable
        for label in SLICE_LABELS:
            if labels.get(label):
                labelled[label][str(labels[label])].append(device.pk)
    for label, values in labelled.items():
        for value, members in sorted(values.items()):
            slices[f"{label}={value}"[:200]] = members
    return slices
