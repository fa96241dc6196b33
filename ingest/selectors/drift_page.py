"""What the drift pages show: heatmap, ranked table, and the history of one metric."""

from datetime import datetime
from typing import Any

from django.db.models import Max

from fleet.models import DeviceIncident
from fleet.sparklines import sparkline
from ingest.models import DriftEvaluation, Incident
from registry.models import Model

PERIODS_SHOWN = 48
HISTORY_SHOWN = 200
_SEVERITY = {"critical": 0, "warning": 1, "healthy": 2, "insufficient": 3, "no_reference": 4}
_DECIMALS = 3


def model_summaries() -> list[dict[str, Any]]:
    """Each model that was ever judged, with its latest judgement in numbers, worst first."""
    latest = dict(
        DriftEvaluation.objects.order_by().values_list("model").annotate(Max("period_end"))
    )
    rows = []
    for model in Model.objects.filter(pk__in=latest):
        statuses = list(
            DriftEvaluation.objects.filter(model=model, period_end=latest[model.pk])
            .order_by()
            .values_list("status", flat=True)
        )
        worst = min(statuses, key=lambda status: _SEVERITY[status])
        rows.append(
            {
                "model": model,
                "at": latest[model.pk],
                "worst": worst,
                "worst_label": DriftEvaluation.Status(worst).label,
                "critical": statuses.count("critical"),
                "warning": statuses.count("warning"),
                "judged": sum(status not in DriftEvaluation.UNJUDGED for status in statuses),
                "total": len(statuses),
                "incidents": Incident.objects.open().filter(model=model).count(),
            }
        )
    return sorted(rows, key=lambda row: _SEVERITY[row["worst"]])


def devices_firing(model: Model) -> int:
    """How many devices find, each by itself, that their records of `model` drift."""
    firing = DeviceIncident.objects.firing().filter(kind="drift", model_slug=model.slug)
    return firing.values("device").distinct().count()


def versions_judged(model: Model) -> list[Any]:
    """Versions of `model` with judgements, the most recently judged first."""
    return list(
        DriftEvaluation.objects.filter(model=model)
        .order_by()
        .values("version__version", "version_id")
        .annotate(last=Max("period_end"))
        .order_by("-last", "-version_id")
    )


def heatmap(model: Model, version_id: int, slice_name: str) -> dict[str, Any]:
    """Metric x time for one slice: `periods` (oldest first) and `rows` of cells."""
    found = DriftEvaluation.objects.filter(model=model, version_id=version_id, slice=slice_name)
    periods: list[datetime] = sorted(
        found.order_by("-period_end").values_list("period_end", flat=True).distinct()[
            :PERIODS_SHOWN
        ]
    )  # fmt: skip
    if not periods:
        return {"periods": [], "rows": []}
    cells: dict[tuple[str, datetime], DriftEvaluation] = {
        (row.metric, row.period_end): row
        for row in found.filter(period_end__gte=periods[0]).defer("details", "rule")
    }
    metrics = sorted({metric for metric, _ in cells})
    return {
        "periods": periods,
        "rows": [
            {"metric": metric, "cells": [cells.get((metric, at)) for at in periods]}
            for metric in metrics
        ],
    }


def ranked(model: Model, version_id: int) -> list[DriftEvaluation]:
    """The last judgements of a version, the worst and best supported first, with sparklines."""
    found = DriftEvaluation.objects.filter(model=model, version_id=version_id)
    last = found.aggregate(Max("period_end"))["period_end__max"]
    rows = list(found.filter(period_end=last).select_related("version").defer("rule"))
    rows.sort(key=_rank)
    recent = found.order_by("-period_end").values_list("metric", "slice", "value")
    history: dict[tuple[str, str], list[float]] = {}
    for metric, slice_name, value in recent[: max(1, len(rows)) * 20]:
        if value is not None:
            history.setdefault((metric, slice_name), []).append(value)
    for row in rows:
        values = history.get((row.metric, row.slice), [])[::-1]
        row.sparkline = sparkline(values, width=80, height=18)  # type: ignore[attr-defined]
    return rows


def _rank(row: DriftEvaluation) -> tuple[Any, ...]:
    ratio = (row.value or 0) / row.threshold if row.threshold else 0
    return (_SEVERITY[row.status], row.slice != "all", -ratio, row.metric)


def history(row: DriftEvaluation) -> list[DriftEvaluation]:
    """The judgements of the same metric, slice and version, oldest first."""
    found = DriftEvaluation.objects.filter(
        version_id=row.version_id,
        variant_key=row.variant_key,
        slice=row.slice,
        metric=row.metric,
    ).defer("details", "rule")
    return list(found.order_by("-period_end")[:HISTORY_SHOWN])[::-1]


def bin_rows(row: DriftEvaluation) -> list[dict[str, Any]]:
    """Per merged bin: name, shares of reference and now, and its part of the PSI."""
    details = row.details
    reference, current = details.get("reference") or [], details.get("current") or []
    contributions = details.get("contributions") or [None] * len(reference)
    total_reference, total_current = sum(reference) or 1, sum(current) or 1
    names = bin_names(row)
    return [
        {
            "name": names[index],
            "reference": reference[index] / total_reference,
            "current": current[index] / total_current,
            "reference_count": reference[index],
            "current_count": current[index],
            "contribution": contributions[index],
        }
        for index in range(len(reference))
    ]


def bin_names(row: DriftEvaluation) -> list[str]:
    """What each merged bin holds: labels, or an interval of confidence, or a rank of the bin."""
    plan = row.details.get("plan") or []
    labels = row.details.get("labels")
    members: dict[int, list[int]] = {}
    for index, merged in enumerate(plan):
        members.setdefault(merged, []).append(index)
    names = []
    for merged in sorted(members):
        fine = members[merged]
        if labels:
            texts = [str(labels[index]) if index < len(labels) else "other" for index in fine]
            names.append(", ".join(texts) if len(texts) <= 4 else f"{len(texts)} classes")
        elif "confidence" in row.metric:
            low, high = fine[0] / len(plan), (fine[-1] + 1) / len(plan)
            names.append(f"{low:.{_DECIMALS}f} to {high:.{_DECIMALS}f}")
        else:
            low, high = fine[0] * 100 / len(plan), (fine[-1] + 1) * 100 / len(plan)
            names.append(f"{low:.0f} to {high:.0f} % of the reference")
    return names
