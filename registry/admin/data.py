"""Data sets: registering, looking at and splitting them."""

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import prefetch_related_objects
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html_join
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from registry.admin.base import ReadOnlyAdmin, form_page
from registry.admin.columns import digest_column, size_column, time_column
from registry.models import DataSet, DataSetKind, Model
from registry.services.composition import split_dataset
from registry.services.datasets import register_dataset


class DataSetForm(forms.Form):
    """An npz, and what it is for."""

    model = forms.ModelChoiceField(Model.objects.order_by("slug"), widget=UnfoldAdminSelectWidget())
    name = forms.CharField(max_length=100, widget=UnfoldAdminTextInputWidget())
    kind = forms.ChoiceField(choices=DataSetKind.choices, widget=UnfoldAdminSelectWidget())
    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget(),
        help_text="npz with x (rows first, preprocessed; or one array named after each input of a "
        "model with several) and, where known, integer labels y.",
    )


class SplitForm(forms.Form):
    """How large the first part is, and what the two are called."""

    percent = forms.FloatField(
        label="Calibration, percent",
        initial=30,
        min_value=0.1,
        max_value=99.9,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Of the rows; the rest becomes the evaluation set. Equal rows stay together.",
    )
    first = forms.CharField(
        label="Name of the calibration set", max_length=100, widget=UnfoldAdminTextInputWidget()
    )
    second = forms.CharField(
        label="Name of the evaluation set", max_length=100, widget=UnfoldAdminTextInputWidget()
    )


VERSIONS_SHOWN = 20


@admin.register(DataSet)
class DataSetAdmin(ReadOnlyAdmin):
    """Arrays that versions are evaluated and calibrated with."""

    list_before_template = "registry/datasets_intro.html"
    list_display = ["name", "model", "kind", "rows", "size", "digest", "created"]
    list_filter = ["kind", "model"]
    list_select_related = ["model", "blob"]
    search_fields = ["name", "model__slug", "blob__sha256"]
    csv_fields = ["model__slug", "name", "kind", "rows", "blob_id", "created_by", "created_at"]
    fields = [
        "model", "name", "kind", "rows", "array_list", "size", "digest", "made_from", "used_by",
        "created_by", "created",
    ]  # fmt: skip
    readonly_fields = ["array_list", "size", "digest", "made_from", "used_by", "created"]
    actions_detail = ["split"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("registry.add_dataset")

    def has_split_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self.has_add_permission(request)

    size = size_column("blob__size_bytes")

    digest = digest_column("SHA-256", "blob_id")

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> DataSet | None:
        dataset: DataSet | None = super().get_object(request, object_id, from_field)
        if dataset is not None:
            # The theme asks for each field's words more than once.
            prefetch_related_objects([dataset], "versions__model")
        return dataset

    @display(description="Arrays")
    def array_list(self, dataset: DataSet) -> str:
        return format_html_join(
            "",
            "<div><code>{}: {} [{}]</code></div>",
            (
                (name, array["dtype"], ", ".join(map(str, array["shape"])))
                for name, array in dataset.arrays.items()
            ),
        )

    @display(description="Versions judged on it")
    def used_by(self, dataset: DataSet) -> str:
        newest = sorted(dataset.versions.all(), key=lambda version: -version.pk)[:VERSIONS_SHOWN]
        links = [(version.get_absolute_url(), version) for version in newest]
        return format_html_join(", ", '<a class="underline" href="{}">{}</a>', links) or "none yet"

    @display(description="Made from")
    def made_from(self, dataset: DataSet) -> str:
        if not dataset.provenance:
            return "an upload"
        return format_html_join(
            "",
            "<div>{}: {}</div>",
            (
                (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value))
                for name, value in dataset.provenance.items()
            ),
        )

    @action(description="Split in two", url_path="split", permissions=["split"])
    def split(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Asks for the share and the names, and makes two sets that have no row in common."""
        dataset = self.get_object(request, unquote(str(object_id)))
        if dataset is None:
            raise Http404(f"No data set {object_id}")
        names = {"first": f"{dataset.name}-calibration", "second": f"{dataset.name}-evaluation"}
        return form_page(
            self,
            request,
            form=SplitForm(request.POST or None, initial=names),
            act=lambda given: split_dataset(
                dataset=dataset,
                share=given["percent"] / 100,
                names=(given["first"], given["second"]),
                actor=request.user.get_username(),
            ),
            title=f"Split {dataset.name} ({dataset.rows} rows) in two",
            button="Split",
            back=reverse("admin:registry_dataset_change", args=[dataset.pk]),
            done=lambda made: (
                f"{made[0].name} with {made[0].rows} and {made[1].name} with {made[1].rows} rows.",
                reverse("admin:registry_dataset_changelist"),
            ),
        )

    created = time_column("Registered", "created_at")

    def add_page(self, request: HttpRequest) -> HttpResponse:
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
