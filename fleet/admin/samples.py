"""Sampled inputs, and the calibration sets that people order from them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminDateWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from fleet import tasks
from fleet.admin.base import actor_of
from fleet.admin.forms import SelectorField, format_selector
from fleet.models import CalibrationBuild, SampleBatch
from fleet.models.samples import MIN_CALIBRATION_ROWS
from fleet.services.samples import KEPT, request_calibration
from registry.admin.base import ReadOnlyAdmin, form_page
from registry.admin.columns import size_column, time_column
from registry.enqueue import enqueue_after_commit
from registry.models import DataSet, DataSetKind, Model
from registry.stratification import MAX_ROWS


class CalibrationBuildForm(forms.Form):
    """Which samples, how many, and what the set is called."""

    model = forms.ModelChoiceField(Model.objects.order_by("slug"), widget=UnfoldAdminSelectWidget())
    name = forms.CharField(
        max_length=100, widget=UnfoldAdminTextInputWidget(), help_text="Of the data set to be made."
    )
    rows = forms.IntegerField(
        initial=2000,
        min_value=MIN_CALIBRATION_ROWS,
        max_value=MAX_ROWS,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=f"Drawn over classes and bands of confidence, the devices in turn. The build "
        f"fails when fewer than {MIN_CALIBRATION_ROWS} different inputs are there.",
    )
    selector = SelectorField(
        required=False, help_text="Only these devices: site=lyon|nice, arch=arm64. Empty takes all."
    )
    since = forms.DateTimeField(
        required=False, widget=UnfoldAdminDateWidget(), help_text="Received from this day on."
    )
    keep_out = forms.ModelChoiceField(
        DataSet.objects.filter(kind=DataSetKind.EVALUATION).select_related("model"),
        required=False,
        widget=UnfoldAdminSelectWidget(),
        label="Keep out",
        help_text="Evaluation set of this model whose rows must not be in the calibration set.",
    )


@admin.register(CalibrationBuild)
class CalibrationBuildAdmin(ReadOnlyAdmin):
    """Orders for calibration sets, the newest first."""

    list_display = ["name", "model", "state_label", "rows_made", "devices", "by", "ordered"]
    list_filter = ["state", "model"]
    list_select_related = ["model", "dataset"]
    search_fields = ["name", "model__slug", "error"]
    csv_fields = [
        "name", "model__slug", "state", "rows", "dataset__rows", "created_by", "created_at",
        "finished_at", "error",
    ]  # fmt: skip
    empty_hint = (
        "A calibration set can be made of inputs that devices really met: allow devices to send "
        "samples on their pages, switch sampling on in their agents, then add an order here."
    )
    fields = [
        "model", "name", "state_label", "error", "made", "rows", "selection", "since", "until",
        "keep_out", "seed", "by", "ordered", "finished",
    ]  # fmt: skip
    readonly_fields = ["state_label", "made", "selection", "by", "ordered", "finished"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("fleet.add_calibrationbuild")

    @display(
        description="State",
        ordering="state",
        label={"Queued": "info", "Running": "info", "Done": "success", "Failed": "danger"},
    )
    def state_label(self, row: CalibrationBuild) -> str:
        return row.get_state_display()

    @display(description="Rows")
    def rows_made(self, row: CalibrationBuild) -> str:
        return f"{row.dataset.rows} of {row.rows}" if row.dataset else f"{row.rows} wanted"

    @display(description="Devices")
    def devices(self, row: CalibrationBuild) -> str:
        return str(row.dataset.provenance.get("devices", "–")) if row.dataset else "–"

    @display(description="Data set")
    def made(self, row: CalibrationBuild) -> str:
        if row.dataset is None:
            return "–"
        return format_html(
            '<a class="text-primary-600 underline" href="{}">{}</a>, {} rows',
            reverse("admin:registry_dataset_change", args=[row.dataset.pk]),
            row.dataset.name,
            row.dataset.rows,
        )

    @display(description="Devices selected")
    def selection(self, row: CalibrationBuild) -> str:
        return format_selector(row.selector) or "every device that may send samples"

    @display(description="Ordered by", ordering="created_by")
    def by(self, row: CalibrationBuild) -> str:
        return row.created_by

    ordered = time_column("Ordered", "created_at")

    finished = time_column("Finished", "finished_at")

    def add_page(self, request: HttpRequest) -> HttpResponse:
        return form_page(
            self,
            request,
            form=CalibrationBuildForm(
                request.POST or None, initial={"model": request.GET.get("model", "")}
            ),
            act=lambda given: self._order(request, given),
            title="Make a calibration set from fleet samples",
            button="Make it",
            back=reverse("admin:fleet_calibrationbuild_changelist"),
            done=lambda build: (
                f"{build} was ordered; this page says how it goes.",
                reverse("admin:fleet_calibrationbuild_change", args=[build.pk]),
            ),
        )

    def _order(self, request: HttpRequest, given: dict[str, Any]) -> CalibrationBuild:
        build = request_calibration(actor=actor_of(request), **given)
        enqueue_after_commit(tasks.build_calibration.delay, build.pk)
        return build


@admin.register(SampleBatch)
class SampleBatchAdmin(ReadOnlyAdmin):
    """What devices sent; the inputs themselves are shown to nobody here."""

    list_display = ["device", "model", "release", "size", "received"]
    list_filter = ["model", "received_at"]
    list_select_related = ["device", "model"]
    search_fields = ["device__device_id", "model__slug", "manifest_sha256"]
    csv_fields = [
        "device__device_id", "model__slug", "manifest_sha256", "size_bytes", "received_at",
    ]  # fmt: skip
    empty_hint = (
        "Devices send sampled inputs when a person allows them to, on the device's page. They are "
        f"kept for {KEPT.days} days."
    )
    fields = ["device", "model", "manifest_sha256", "size", "received"]
    readonly_fields = ["size", "received"]

    @display(description="Release", ordering="manifest_sha256")
    def release(self, row: SampleBatch) -> str:
        return row.manifest_sha256[:12] or "–"

    size = size_column("size_bytes")

    received = time_column("Received", "received_at")
