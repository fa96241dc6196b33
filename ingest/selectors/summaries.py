"""Windows and latency of a model in a few rows."""

from collections import defaultdict
from datetime import datetime
from typing import Any

from fleet.models import Device
from ingest.models import Window
from ingest.rules import bins
from ingest.rules.windows import WindowCounts, merge_counts


def latency_fields(counts: WindowCounts) -> dict[str, float | None]:
    """p50, p95 and p99 in milliseconds."""
    return {
        f"p{name}_ms": bins.latency_quantile_ms(counts.latency, quantile)
        for name, quantile in (("50", 0.5), ("95", 0.95), ("99", 0.99))
    }


def window_summaries(model_id: int, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """One row per window, release and cohort with the whole fleet's counts, newest first."""
    totals: dict[tuple[Any, ...], WindowCounts] = defaultdict(WindowCounts)
    devices: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    rows = Window.objects.between(start, end).filter(version__model_id=model_id)
    for row in rows.select_related("version", "variant").iterator(chunk_size=2000):
        variant = row.variant.name if row.variant else None
        key = (row.start, row.seconds, row.version.version, variant, row.cohort)
        totals[key] = merge_counts(totals[key], WindowCounts.from_json(row.counts))
        devices[key].add(row.device_id)
    ordered = sorted(totals, key=lambda key: (key[0], key[2], key[3] or "", key[4]), reverse=True)
    return [
        {
            "start": key[0],
            "seconds": key[1],
            "version": key[2],
            "variant": key[3],
            "cohort": key[4],
            "devices": len(devices[key]),
            "n": totals[key].n,
            "failed": totals[key].errors,
            "error_rate": totals[key].errors / totals[key].n if totals[key].n else None,
            "mean_confidence": (
                totals[key].confidence_sum / totals[key].confidence_n
                if totals[key].confidence_n
                else None
            ),
            **latency_fields(totals[key]),
        }
        for key in ordered
    ]


def latency_summaries(model_id: int, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """One row per version and hardware class."""
    totals: dict[tuple[str, str], WindowCounts] = defaultdict(WindowCounts)
    devices: dict[tuple[str, str], set[int]] = defaultdict(set)
    rows = Window.objects.between(start, end).filter(version__model_id=model_id)
    classes = {
        device.pk: str(device.selectable.get("hardware_class", "unknown"))
        for device in Device.objects.filter(pk__in=rows.order_by().values("device")).only(
            "device_id", "labels", "attributes"
        )
    }
    for row in rows.select_related("version").iterator(chunk_size=2000):
        key = (row.version.version, classes.get(row.device_id, "unknown"))
        totals[key] = merge_counts(totals[key], WindowCounts.from_json(row.counts))
        devices[key].add(row.device_id)
    return [
        {
            "version": version,
            "hardware_class": hardware,
            "devices": len(devices[(version, hardware)]),
            "n": counts.n,
            **latency_fields(counts),
        }
        for (version, hardware), counts in sorted(totals.items())
    ]
