"""Canaries and control of a rollout, each device with its own past; a few queries in all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q

from fleet.models import Device
from ingest.models import Window
from ingest.models.windows import Cohort
from ingest.rules.cohort_evidence import DeviceHistory
from ingest.rules.windows import WindowCounts, merge_counts

#: How much of its past on the release before a device is compared with.
PAST = timedelta(days=7)
#: Devices a side that are read: an interval from so many is as narrow as anyone needs.
MOST_DEVICES = 2_000
#: With at least so many of them, the labelled control stands alone.
ENOUGH_CONTROLS = 10


@dataclass(frozen=True)
class Cohorts:
    """Both sides by the device's row id."""

    canary: dict[int, DeviceHistory]
    control: dict[int, DeviceHistory]


def read_cohorts(
    *,
    model_id: int,
    target_version_id: int,
    previous_version_id: int | None,
    began: datetime,
    since: datetime,
    new_variant_ids: Collection[int] = (),
) -> Cohorts:
    """Devices with what they did since `since` and, on the release before, before `began`.

    The control's past is cut at the same moment as the canaries', so what the time of day or the
    weather does to all cancels. Devices outside the control's label stay beside it while it is
    small.

    Args:
        began: when the rollout started.
        since: when its stage started.
        new_variant_ids: what the rollout brings where it stays at the version: canaries count on
            these alone, beside the other variants of the version.
    """
    rows = Window.objects.filter(version__model_id=model_id)
    on_target = Q(version_id=target_version_id, cohort=Cohort.CANARY)
    if new_variant_ids:
        on_target &= Q(variant_key__in=new_variant_ids)
    canaries = _ids(rows.filter(on_target, start__gte=since))
    controls: list[int] = []
    staying = rows.none()
    if previous_version_id is not None:
        staying = rows.filter(version_id=previous_version_id, start__gte=since)
        staying = staying.exclude(cohort=Cohort.CANARY).exclude(device_id__in=canaries)
        controls = _ids(staying.filter(cohort=Cohort.CONTROL))
        if len(controls) < ENOUGH_CONTROLS:
            controls = _ids(staying)
    after = (on_target & Q(device_id__in=canaries)) | Q(
        version_id=previous_version_id, device_id__in=controls
    )
    now = _sum(rows.filter(after, start__gte=since))
    past: dict[int, WindowCounts] = {}
    if previous_version_id is not None:
        # A control device goes on in the window in which the rollout began; its past ends before.
        past = _sum(
            rows.filter(
                version_id=previous_version_id,
                device_id__in=[*canaries, *controls],
                start__gte=began - PAST,
                start__lt=began,
            )
        )
    hardware = _hardware([*canaries, *controls])

    def history(device_id: int) -> DeviceHistory:
        return DeviceHistory(now[device_id], past.get(device_id), hardware.get(device_id, ""))

    return Cohorts(
        {device_id: history(device_id) for device_id in canaries if device_id in now},
        {device_id: history(device_id) for device_id in controls if device_id in now},
    )


def _ids(windows: object) -> list[int]:
    # By id, so that a device that is read once is read at every later look.
    found = windows.order_by("device_id").values_list("device_id", flat=True)  # type: ignore[attr-defined]
    return list(found.distinct()[:MOST_DEVICES])


def _sum(windows: object) -> dict[int, WindowCounts]:
    devices: dict[int, WindowCounts] = {}
    rows = windows.order_by("id").values_list("device_id", "counts")  # type: ignore[attr-defined]
    for device_id, counts in rows.iterator(chunk_size=2_000):
        part = WindowCounts.from_json(counts)
        known = devices.get(device_id)
        devices[device_id] = part if known is None else merge_counts(known, part)
    return devices


def _hardware(ids: Collection[int]) -> dict[int, str]:
    devices = Device.objects.filter(pk__in=ids).only("device_id", "labels", "attributes")
    return {
        device.pk: str(device.selectable.get("hardware_class", ""))
        for device in devices.iterator(chunk_size=2_000)
    }
