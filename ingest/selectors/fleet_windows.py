"""Device windows, read back and summed per device."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleet.models import Device
from ingest.models import Window
from ingest.rules.windows import WindowCounts, merge_counts

SLICE_LABELS = ("site", "hardware_class")


@dataclass
class ReleaseWindows:
    """All devices of one release in a period."""

    version_id: int
    variant_id: int | None
    devices: dict[int, WindowCounts] = field(default_factory=dict)


def sum_by_device(windows: Iterable[Window]) -> dict[int, WindowCounts]:
    """Device row id to its counts over all `windows`."""
    devices: dict[int, WindowCounts] = defaultdict(WindowCounts)
    for window in windows:
        counts = WindowCounts.from_json(window.counts)
        devices[window.device_id] = merge_counts(devices[window.device_id], counts)
    return dict(devices)


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


def slices_of(devices: dict[int, WindowCounts]) -> dict[str, list[WindowCounts]]:
    """`all`, and one slice per value of each of `SLICE_LABELS` where there are several values."""
    slices: dict[str, list[WindowCounts]] = {"all": list(devices.values())}
    labelled: dict[str, dict[str, list[WindowCounts]]] = defaultdict(lambda: defaultdict(list))
    for device in Device.objects.filter(pk__in=devices).only("device_id", "labels", "attributes"):
        labels: dict[str, Any] = device.selectable
        for label in SLICE_LABELS:
            if labels.get(label):
                labelled[label][str(labels[label])].append(devices[device.pk])
    for label, values in labelled.items():
        for value, counts in sorted(values.items()):
            slices[f"{label}={value}"[:200]] = counts
    return slices
