"""Baselines: what drift is measured against."""

import json

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from registry.admin.base import ReadOnlyAdmin
from registry.admin.columns import digest_column, time_column
from registry.models import Baseline

CHART_WIDTH, CHART_HEIGHT = 384, 72


@admin.register(Baseline)
class BaselineAdmin(ReadOnlyAdmin):
    """What drift is measured against."""

    list_before_template = "registry/baselines_intro.html"
    list_display = ["version", "variant_name", "status", "rows", "source", "digest", "created"]
    list_filter = ["is_active", "version__model"]
    list_select_related = ["version__model", "variant"]
    search_fields = ["sha256", "source", "version__version", "version__model__slug"]
    csv_fields = [
        "version__model__slug", "version__version", "variant__name", "is_active", "source",
        "sha256", "actor", "created_at",
    ]  # fmt: skip
    fields = [
        "version", "variant_name", "status", "rows", "confidence", "digest", "source", "reason",
        "actor", "created", "whole_profile",
    ]  # fmt: skip
    readonly_fields = [
        "variant_name",
        "status",
        "rows",
        "confidence",
        "digest",
        "created",
        "whole_profile",
    ]

    @display(description="Variant", ordering="variant__name")
    def variant_name(self, baseline: Baseline) -> str:
        return baseline.variant.name if baseline.variant else "all variants"

    @display(
        description="State",
        ordering="is_active",
        label={"Active": "success", "Replaced": "info"},
    )
    def status(self, baseline: Baseline) -> str:
        return "Active" if baseline.is_active else "Replaced"

    @display(description="Samples")
    def rows(self, baseline: Baseline) -> str:
        return f"{baseline.profile.get('n', '–')}"

    @display(description="Confidence, 0 to 1")
    def confidence(self, baseline: Baseline) -> str:
        counts = baseline.profile.get("confidence", {}).get("counts", [])
        return _bars(counts) if counts and max(counts) else "–"

    @display(description="Profile")
    def whole_profile(self, baseline: Baseline) -> str:
        return format_html(
            '<details><summary style="cursor:pointer">Show the profile as JSON</summary>'
            '<code style="word-break:break-all;font-size:.8rem">{}</code></details>',
            json.dumps(baseline.profile),
        )

    digest = digest_column("SHA-256", "sha256")

    created = time_column("Made", "created_at")


def _bars(counts: list[int]) -> str:
    width, top = CHART_WIDTH / len(counts), max(counts)
    bars = format_html_join(
        "",
        '<rect x="{}" y="{}" width="{}" height="{}" fill="#0d9488"><title>{}</title></rect>',
        (
            (
                round(place * width, 2),
                round(CHART_HEIGHT * (1 - count / top), 2),
                round(width * 0.85, 2),
                round(CHART_HEIGHT * count / top, 2),
                f"{place / len(counts):.2f} to {(place + 1) / len(counts):.2f}: {count}",
            )
            for place, count in enumerate(counts)
            if count
        ),
    )
    return format_html(
        '<svg role="img" aria-label="Histogram of confidence" width="{0}" height="{1}" '
        'viewBox="0 0 {0} {1}">{2}</svg>',
        CHART_WIDTH,
        CHART_HEIGHT,
        bars,
    )
