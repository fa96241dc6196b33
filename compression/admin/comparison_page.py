"""The comparison of a version's measured variants: page, picture and CSV."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from compression import selectors
from compression.admin.base import render_page, write_share
from compression.comparison import COMPARISON_FIELDS, draw_points, pick_fields
from compression.states import JobState
from registry.admin.base import csv_response
from registry.admin.columns import ago
from registry.models import Version


def comparison_page(
    model_admin: ModelAdmin, request: HttpRequest, version: Version
) -> HttpResponse:
    """All measured variants of a version with the Pareto front."""
    rows = selectors.measured_variants(version.pk)
    context = {
        "version": version,
        "rows": [describe_row(row) for row in rows],
        "points": draw_points(rows),
    }
    return render_page(model_admin, request, "version", f"Variants of {version}", context)


def comparison_picture(request: HttpRequest, version: Version) -> HttpResponse:
    """The Pareto picture alone, for a page of another app to load."""
    rows = selectors.measured_variants(version.pk)
    context = {
        "version": version,
        "rows": rows,
        "points": draw_points(rows),
        "is_picture_only": True,
    }
    return TemplateResponse(request, "compression/comparison.html", context)


def comparison_csv(version: Version) -> HttpResponseBase:
    """The comparison as a file, with every field."""
    name = f"variants-{version.model.slug}-{version.version}"
    rows = pick_fields(COMPARISON_FIELDS, selectors.measured_variants(version.pk))
    return csv_response(name, COMPARISON_FIELDS, rows)


def describe_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the comparison with what its table says in words."""
    share = None
    if row["accuracy"] is not None:
        share = {name: row[f"accuracy_{name}"] for name in ("low", "high")}
        share["value"] = row["accuracy"]
    at = datetime.fromisoformat(row["measured_at"]) if row["measured_at"] else None
    return {
        **row,
        "state_label": "Source" if row["is_source"] else JobState(row["state"]).label,
        "accuracy_words": f"{write_share(share)}, n = {row['samples']:,}",
        "measured_words": ago(at),
    }
