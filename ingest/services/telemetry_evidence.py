"""Evidence from what devices say of themselves: memory and temperature."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Avg, Count, F, FloatField, Min, OuterRef, Q, Subquery
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from fleet.models import Installation, Telemetry
from ingest.rules.cohort_evidence import Evidence
from ingest.rules.cohort_judgement import Pair, judge_means
from ingest.rules.device_means import DeviceMean, Scale
from ingest.selectors.cohorts import PAST, Cohorts


@dataclass(frozen=True)
class _Reading:
    resource: str
    is_ratio: bool


READINGS = {
    "memory_ratio": _Reading("process_rss_mb", is_ratio=True),
    "temperature_rise": _Reading("temperature_c", is_ratio=False),
}


def judge_telemetry(
    *,
    rollout_id: int,
    cohorts: Cohorts,
    margins: Mapping[str, float],
    began: datetime,
    since: datetime,
    hours: float,
) -> list[Evidence]:
    """Evidence for those of `margins` that telemetry measures; one query a metric.

    A canary's reports count from when it had installed the target.
    """
    found = []
    for metric, reading in READINGS.items():
        if metric not in margins:
            continue
        ids = [*cohorts.canary, *cohorts.control]
        means = _means(rollout_id, ids, reading.resource, began, since)
        ours, theirs = (
            _pairs(side, means, is_ratio=reading.is_ratio)
            for side in (cohorts.canary, cohorts.control)
        )
        scale = Scale(is_ratio=reading.is_ratio)
        found.append(judge_means(metric, scale, ours, theirs, margins[metric], hours))
    return found


def _means(
    rollout_id: int, ids: Collection[int], resource: str, began: datetime, since: datetime
) -> dict[int, dict[str, Any]]:
    installed = (
        Installation.objects.filter(
            rollout_id=rollout_id, device=OuterRef("device"), state=Installation.State.COMMITTED
        )
        .order_by()
        .values("device")
        .annotate(at=Min("updated_at"))
        .values("at")
    )
    value = Cast(KeyTextTransform(resource, "resources"), FloatField())
    is_after = Q(received_at__gte=since) & (
        Q(installed__isnull=True) | Q(received_at__gte=F("installed"))
    )
    is_before = Q(received_at__gte=began - PAST, received_at__lt=began)
    rows = (
        Telemetry.objects.filter(device_id__in=ids, received_at__gte=began - PAST)
        .filter(**{f"resources__{resource}__isnull": False})
        .annotate(value=value, installed=Subquery(installed))
        .order_by()
        .values("device_id")
        .annotate(
            after_n=Count("id", filter=is_after),
            after=Avg("value", filter=is_after),
            after_square=Avg(F("value") * F("value"), filter=is_after),
            before_n=Count("id", filter=is_before),
            before=Avg("value", filter=is_before),
            before_square=Avg(F("value") * F("value"), filter=is_before),
        )
    )
    return {row["device_id"]: dict(row) for row in rows}


def _pairs(
    ids: Collection[int], means: Mapping[int, Mapping[str, Any]], *, is_ratio: bool
) -> list[Pair]:
    pairs = []
    for device_id in ids:
        row = means.get(device_id, {})
        after, before = (_mean(row, name, is_ratio=is_ratio) for name in ("after", "before"))
        if after is not None:
            pairs.append(Pair(after, before))
    return pairs


def _mean(row: Mapping[str, Any], name: str, *, is_ratio: bool) -> DeviceMean | None:
    n, mean = int(row.get(f"{name}_n") or 0), row.get(name)
    if n == 0 or mean is None or not math.isfinite(mean) or (is_ratio and mean <= 0):
        return None
    variance = max(float(row[f"{name}_square"]) - mean * mean, 0.0)
    if not is_ratio:
        return DeviceMean(n, float(mean), variance / n + 1e-6)
    # Of a logarithm, by the delta method.
    return DeviceMean(n, math.log(mean), variance / n / mean**2 + 1e-8)
