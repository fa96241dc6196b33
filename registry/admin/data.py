"""Data sets and baselines."""

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from registry.admin.base import ReadOnlyAdmin, ago, copyable, form_page
from registry.models import Baseline, DataSet, DataSetKind, Model
from registry.services.datasets import register_dataset

CHART_WIDTH, CHART_HEIGHT = 384, 72


class DataSetForm(forms.Form):
    """An npz, and what it is for."""

    model = forms.ModelChoiceField(Model.objects.order_by("slug"), widget=UnfoldAdminSelectWidget())
    name = forms.CharField(max_length=100, widget=UnfoldAdminTextInputWidget())
    kind = forms.ChoiceField(choices=DataSetKind.choices, widget=UnfoldAdminSelectWidget())
    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget(),
        help_text="npz with x (rows first, preprocessed) and, where known, integer labels y.",
    )


@admin.register(DataSet)
class DataSetAdmin(ReadOnlyAdmin):
    """Arrays that versions are evaluated and calibrated with."""

    list_before_template = "registry/datasets_intro.html"
    list_display = ["name", "model", "kind", "rows", "size", "digest", "created"]
    list_filter = ["kind", "model"]
    list_select_related = ["model", "blob"]
    search_fields = ["name", "model__slug", "blob__sha256"]
    csv_fields = ["model__slug", "name", "kind", "rows", "blob_id", "created_by", "created_at"]
    fields = ["model", "name", "kind", "rows", "arrays", "size", "digest", "created_by", "created"]
    readonly_fields = ["size", "digest", "created"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("registry.add_dataset")

    @display(description="Size", ordering="blob__size_bytes")
    def size(self, dataset: DataSet) -> str:
        return filesizeformat(dataset.blob.size_bytes)

    @display(description="SHA-256")
    def digest(self, dataset: DataSet) -> str:
        return copyable(dataset.blob_id)

    @display(description="Registered", ordering="created_at")
    def created(self, dataset: DataSet) -> str:
        return ago(dataset.created_at)

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return form_page(
            self,
            request,
            form=DataSetForm(
                request.POST or None,
                request.FILES or None,
                initial={"model": request.GET.get("model", "")},
            ),
            act=lambda given: register_dataset(
                model_slug=given["model"].slug,
                name=given["name"],
                kind=given["kind"],
                stream=given["file"],
                actor=request.user.get_username(),
            ),
            title="Register a data set",
            button="Register",
            back=reverse("admin:registry_dataset_changelist"),
            done=lambda dataset: (
                f"{dataset} with {dataset.rows} rows is registered.",
                reverse("admin:registry_dataset_change", args=[dataset.pk]),
            ),
        )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        context = {**(extra_context or {}), "is_empty": not DataSet.objects.exists()}
        return super().changelist_view(request, context)


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

    @display(description="SHA-256")
    def digest(self, baseline: Baseline) -> str:
        return copyable(baseline.sha256)

    @display(description="Made", ordering="created_at")
    def created(self, baseline: Baseline) -> str:
        return ago(baseline.created_at)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        context = {**(extra_context or {}), "is_empty": not Baseline.objects.exists()}
        return super().changelist_view(request, context)


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
