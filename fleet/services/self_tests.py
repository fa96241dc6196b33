"""What devices' self-tests measured: kept one by one, told class by class of hardware."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Avg, Count, F, FloatField, Max, Min, Q, Sum
from django.db.models.functions import Cast

from fleet.models import Device, Installation, SelfTest
from fleet.rules.self_test_report import SelfTestReport
from registry.device_results import DeviceResult, judge_result
from registry.models import Variant

MAX_CLASSES = 200
"""Classes of hardware that one answer tells, those with most devices first."""


def keep_self_test(
    *,
    device: Device,
    installation: Installation,
    report: SelfTestReport,
    is_passed: bool,
    at: datetime,
) -> None:
    """Keeps what the device measured in place of what it measured of this variant before."""
    named = device.selectable.get("hardware_class") or report.processor
    SelfTest.objects.update_or_create(
        device=device,
        variant_id=installation.variant_id,
        defaults={
            "installation": installation,
            "hardware": str(named or device.capabilities.get("arch") or "unknown")[:100],
            "isa": ",".join(report.isa),
            "processor": report.processor,
            "rows": report.rows,
            "agreed": report.agreed,
            "labelled": report.labelled,
            "right": report.right,
            "latency_ms": report.latency_ms,
            "is_passed": is_passed,
            "measured_at": at,
        },
    )


def device_results(variants: Iterable[Variant]) -> dict[int, list[DeviceResult]]:
    """Variant key to its results by class, the largest class first; one query for all of them.

    The database adds up; a row comes back for each class, whatever the number of devices.
    """
    metrics = {variant.pk: variant.metrics for variant in variants}
    share = Cast("agreed", FloatField()) / F("rows")
    classes = (
        SelfTest.objects.filter(variant__in=list(metrics))
        .values("variant_id", "hardware", "isa")
        .annotate(
            devices=Count("pk"),
            failed=Count("pk", filter=Q(is_passed=False)),
            asked=Max("rows"),
            agreement=Cast(Sum("agreed"), FloatField()) / Sum("rows"),
            lowest=Min(share),
            known=Max("labelled"),
            labels=Sum("labelled"),
            rights=Sum("right"),
            latency=Avg("latency_ms"),
        )
        .order_by("-devices", "hardware", "isa")[:MAX_CLASSES]
    )
    found: dict[int, list[DeviceResult]] = {}
    for row in classes:
        isa = tuple(row["isa"].split(",")) if row["isa"] else ()
        accuracy = row["rights"] / row["labels"] if row["labels"] else None
        verdict = judge_result(
            rows=row["asked"],
            agreement=row["agreement"],
            labelled=row["known"],
            accuracy=accuracy,
            isa=isa,
            metrics=metrics[row["variant_id"]],
        )
        result = DeviceResult(
            hardware=row["hardware"],
            isa=isa,
            devices=row["devices"],
            failed=row["failed"],
            rows=row["asked"],
            agreement=row["agreement"],
            lowest_agreement=row["lowest"],
            labelled=row["known"],
            accuracy=accuracy,
            latency_ms=row["latency"],
            verdict=verdict,
        )
        found.setdefault(row["variant_id"], []).append(result)
    return found
