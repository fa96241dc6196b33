"""What a device says is wrong with it becomes incidents that open, follow and end."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fleet.announce import tell_incident
from fleet.models import Device, DeviceIncident
from registry.events import publish

logger = logging.getLogger(__name__)

MAX_FIRING = 64
"""Incidents of one device at once; an agent has five resources and a handful of models."""
KEPT_RESOLVED = 200
"""Of one device; the oldest go."""
LONGEST_AGO = timedelta(days=30)
#: Metrics whose lower values are the worse ones.
FALLING_METRICS = frozenset({"disk_free_mb"})


class Finding(NamedTuple):
    """One incident as a device reports it: still firing when it reported."""

    kind: str
    model_slug: str
    metric: str
    value: float | None
    threshold: float | None
    for_seconds: float

    @property
    def key(self) -> tuple[str, str, str]:
        return self.kind, self.model_slug, self.metric


def read_findings(value: Any) -> list[Finding]:
    """The usable entries of a report's `incidents`, each key once; others are passed over."""
    found: dict[tuple[str, str, str], Finding] = {}
    for item in value[:MAX_FIRING] if isinstance(value, list) else []:
        if not isinstance(item, Mapping):
            continue
        kind, metric = str(item.get("kind", "")), str(item.get("metric", ""))
        if kind not in DeviceIncident.Kind.values or not 0 < len(metric) <= 100:
            continue
        finding = Finding(
            kind,
            str(item.get("model") or "")[:100],
            metric,
            _number(item.get("value")),
            _number(item.get("threshold")),
            max(0.0, _number(item.get("for_s")) or 0.0),
        )
        found.setdefault(finding.key, finding)
    return list(found.values())


def follow_incidents(*, device: Device, reported: Any, now: datetime) -> None:
    """Opens what is new in `reported`, follows what goes on and ends what is no longer there.

    The caller holds the device's lock, in a transaction. The whole state comes with each report,
    so a report that was lost loses nothing but time.

    Args:
        reported: the report's `incidents`; None, from an agent that knows no such part, changes
            nothing.
    """
    if reported is None:
        return
    findings = {finding.key: finding for finding in read_findings(reported)}
    firing = {
        (row.kind, row.model_slug, row.metric): row
        for row in DeviceIncident.objects.firing().filter(device=device)
    }
    for key, row in firing.items():
        if key not in findings:
            row.resolved_at = now
            row.save(update_fields=["resolved_at"])
            logger.info("device %s: %s of %s resolved", device.device_id, row.metric, row.kind)
            continue
        finding = findings[key]
        row.value, row.reported_at = finding.value, now
        row.threshold = finding.threshold
        row.worst = _worse(finding.metric, row.worst, finding.value)
        row.save(update_fields=["value", "worst", "threshold", "reported_at"])
    fresh = [finding for key, finding in findings.items() if key not in firing]
    opened = [_incident(device, finding, now) for finding in fresh]
    DeviceIncident.objects.bulk_create(opened)
    over = [row for key, row in firing.items() if key not in findings]
    publish(tell_incident(device, row, now) for row in [*opened, *over])
    for finding in fresh:
        logger.info(
            "device %s: %s of %s fires: %s", device.device_id, finding.metric, finding.kind,
            finding.value,
        )  # fmt: skip
    if fresh:
        _forget_oldest(device)


def _incident(device: Device, finding: Finding, now: datetime) -> DeviceIncident:
    # The device's wall clock may be years off; how long it has lasted is measured on the device.
    lasted = min(timedelta(seconds=min(finding.for_seconds, 1e9)), LONGEST_AGO)
    return DeviceIncident(
        device=device,
        kind=finding.kind,
        model_slug=finding.model_slug,
        metric=finding.metric,
        value=finding.value,
        worst=finding.value,
        threshold=finding.threshold,
        manifest_sha256=str(device.running.get(finding.model_slug, ""))[:64],
        opened_at=now - lasted,
        reported_at=now,
    )


def _forget_oldest(device: Device) -> None:
    resolved = DeviceIncident.objects.filter(device=device, resolved_at__isnull=False)
    excess = list(resolved.values_list("pk", flat=True)[KEPT_RESOLVED:])
    DeviceIncident.objects.filter(pk__in=excess).delete()


def _worse(metric: str, first: float | None, second: float | None) -> float | None:
    values: Iterable[float] = [value for value in (first, second) if value is not None]
    pick = min if metric in FALLING_METRICS else max
    return pick(values, default=None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value)
    return number if math.isfinite(number) else None
