"""The comparison of a version's measured variants: page, picture and CSV."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from compression import selectors
from compression.admin.base import render_page, write_lost, write_percent
from compression.measure.kernels.instruction_sets import SATURATING_SETS
from compression.report.comparison import COMPARISON_FIELDS, pick_fields
from compression.report.picture import draw_points
from compression.states import JobState
from registry.admin.base import csv_response
from registry.admin.columns import ago
from registry.models import Version
from registry.units import write_bytes, write_count


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
    """A row of the comparison with what its table says in words.

    Each column shows one figure to compare by, and below it what belongs to it; what is read
    rarely is in `details`, label by label.
    """
    at = datetime.fromisoformat(row["measured_at"]) if row["measured_at"] else None
    return {
        **row,
        "state_label": "Source" if row["is_source"] else JobState(row["state"]).label,
        "size": write_bytes(row["bytes"]),
        "compressed": write_bytes(row["compressed_bytes"]),
        "accuracy_share": write_percent(row["accuracy"]),
        "accuracy_interval": _interval(row, "accuracy"),
        "lost": write_lost(row["accuracy_drop_points"]),
        "agreement_share": write_percent(row["agreement"]),
        "divergence": _figure(row["divergence_nats"]),
        "p50": _milliseconds(row["p50_ms"]),
        "tail": " / ".join(_milliseconds(row[f"{name}_ms"]) for name in ("p95", "p99")),
        "control": _milliseconds(row["control_p50_ms"]),
        "measured": ago(at),
        "machine": _machine(row),
        "details": list_details(row),
    }


def list_details(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What a row of the comparison unfolds to."""
    shares = " to ".join(write_percent(row[f"agreement_{end}"]) for end in ("low", "high"))
    zeros = "no layers" if row["zero_share"] is None else write_percent(row["zero_share"])
    versions = ", ".join(f"{name} {number}" for name, number in row["libraries"].items())
    excluded = "; ".join(f"{name}: {why}" for name, why in row["excluded"].items())
    seconds = ", ".join(f"{note['name']} {note['seconds']} s" for note in row["passes"])
    code = (row["passes_sha256"] or "–")[:12]
    details = [
        ("Bytes", f"{row['bytes']:,}, compressed {row['compressed_bytes']:,}"),
        ("Parameters", _whole(row["parameters"])),
        ("MACs per sample", _whole(row["macs"])),
        ("Zero weights, mean of layers", zeros),
        ("Latency p50 / p95 / p99", _latency(row, "")),
        (f"{row['source_name']} in the same run", _latency(row, "control_")),
        ("Runs of each, in turns", _whole(row["latency_runs"])),
        ("Self-tests on devices", "; ".join(row["on_devices"]) or "none told yet"),
        ("Model file (SHA-256)", row["sha256"]),
    ]
    if not row["is_source"]:
        details += [
            (f"Agreement with {row['source_name']}, 95 % interval", shares),
            ("Left as they were", excluded or "none: every node was treated"),
            ("Right by instruction set", describe_sets(row)),
            ("Offered to devices with", " or ".join(row["requires_isa"]) or "any processor"),
            ("Collapse flags", ", ".join(row["collapse_flags"]) or "none"),
            ("Passes", seconds),
            ("Recipe (SHA-256)", row["recipe_sha256"]),
            ("Calibration set (SHA-256)", row["calibration_sha256"] or "none"),
        ]
    return [
        *details,
        ("Evaluation set (SHA-256)", row["evaluation_sha256"]),
        ("Made with", f"{versions}, passes {code}; seed {row['seed']}"),
        ("CPU flags", " ".join(row["cpu_flags"]) or "unknown"),
    ]


def describe_sets(row: dict[str, Any]) -> str:
    """The share of right answers on each kind of processor; of agreeing ones without labels."""
    is_labelled = row["accuracy"] is not None
    figures = row["accuracy_by_isa" if is_labelled else "agreement_by_isa"]
    word = "" if is_labelled else " agree"
    groups: dict[float | None, list[str]] = {}
    for name, figure in figures.items():
        title = f"{name} without vnni" if name in SATURATING_SETS and row["saturates_on"] else name
        groups.setdefault(figure, []).append(title)
    parts = [
        f"{'unknown' if figure is None else write_percent(figure) + word} on {', '.join(names)}"
        for figure, names in groups.items()
    ]
    return "; ".join(parts) or "not told by this report"


def _machine(row: dict[str, Any]) -> str:
    return f"{row['measured_on']}, {write_count(row['threads'], 'thread')}, batch {row['batch']}"


def _interval(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if low is None else f"{100 * low:.1f} to {100 * high:.1f}"


def _latency(row: dict[str, Any], prefix: str) -> str:
    values = [_milliseconds(row[f"{prefix}{name}_ms"]) for name in ("p50", "p95", "p99")]
    return f"{' / '.join(values)} ms"


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.5f}"


def _whole(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
