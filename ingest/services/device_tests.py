"""Tests a bounded number of devices, each against its own past, and keeps what they said.

The judgement of the fleet reads the outcome and no device. What the tests cost does not grow with
the fleet either: a hash chooses the devices, the same ones every time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from ingest.models import DeviceTests
from ingest.rules.changed_devices import DeviceChange, find_changed_devices
from ingest.rules.clusters import pick_devices
from ingest.rules.judgement import Policy
from ingest.selectors.device_pasts import MOST_DEVICES, device_stories, sum_devices
from ingest.selectors.rollups import ReleaseCells

Changes = Mapping[str, list[DeviceChange]]
"""What the tested devices of each cell said."""


def examine_devices(
    release: ReleaseCells, policy: Policy, start: datetime, end: datetime
) -> Changes:
    """Tests devices of the release over [start, end), once for each period."""
    version, variant = release.version_id, release.own_variant or 0
    rows = DeviceTests.objects.filter(version_id=version, variant_key=variant, period_end=end)
    known = rows.first()
    if known is None:
        known, _ = DeviceTests.objects.update_or_create(
            version_id=version,
            variant_key=variant,
            defaults={"period_end": end, "found": _test(release, policy, start, end)},
        )
    found: dict[str, list[DeviceChange]] = defaultdict(list)
    for cell, p_value, is_changed, metrics in known.found:
        found[cell].append(DeviceChange(p_value, is_changed, tuple(metrics)))
    return found


def _test(
    release: ReleaseCells, policy: Policy, start: datetime, end: datetime
) -> list[list[object]]:
    cell_of = pick_devices(release.cells, MOST_DEVICES)
    profile = release.baseline.profile if release.baseline else {}
    now = sum_devices(release.version_id, list(cell_of), start, end)
    stories = device_stories(release.version_id, now, start, end)
    changes = find_changed_devices(
        list(stories.values()),
        error_limit=policy.warning_error_rate,
        latency_ratio=policy.warning_latency_ratio,
        reference_classes=(profile.get("class") or {}).get("counts"),
    )
    return [
        [cell_of[device], change.p_value, change.is_changed, list(change.metrics)]
        for device, change in zip(stories, changes, strict=True)
    ]
