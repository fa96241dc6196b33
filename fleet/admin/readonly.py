"""Records of what devices and gates answered, for looking at only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import display

from fleet.admin.base import STATE_COLOURS, VERDICT_COLOURS
from fleet.admin.device_resources import incident_words
from fleet.models import DeviceIncident, GateEvaluation, Installation, InstallationEvent
from registry.admin.base import ReadOnlyAdmin
from registry.admin.columns import state_column, time_column


class InstallationEventInline(TabularInline):
    """The device's reports, as they came."""

    model = InstallationEvent
    extra = 0
    can_delete = False
    fields = ["seq", "state", "code", "detail", "received_at"]
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Installation)
class InstallationAdmin(ReadOnlyAdmin):
    """Every offer to every device, the newest first."""

    list_display = ["device", "release", "state_label", "cohort", "code", "attempts", "updated"]
    list_filter = ["state", "cohort", "model", "deployment"]
    list_select_related = ["device", "model", "version", "variant"]
    search_fields = ["device__device_id", "assignment_id", "manifest_sha256", "code"]
    csv_fields = [
        "device__device_id", "model__slug", "version__version", "variant__name", "state", "cohort",
        "code", "attempts", "offered_at", "updated_at",
    ]  # fmt: skip
    empty_hint = "No installation yet. One appears when a device is offered a release."
    inlines = [InstallationEventInline]

    @display(description="Release", ordering="version")
    def release(self, row: Installation) -> str:
        return f"{row.model.slug} {row.version.version} · {row.variant.name}"

    state_label = state_column("State", "state", STATE_COLOURS)

    updated = time_column("Updated", "updated_at")


@admin.register(GateEvaluation)
class GateEvaluationAdmin(ReadOnlyAdmin):
    """Every answer of every gate: the value beside the threshold as it was."""

    list_display = [
        "rollout", "metric", "stage", "verdict_label", "value", "threshold", "control_value",
        "devices", "samples", "evaluated",
    ]  # fmt: skip
    list_filter = ["verdict", "gate__metric"]
    list_select_related = ["gate__rollout"]
    search_fields = ["gate__metric", "gate__rollout__id"]
    csv_fields = [
        "gate__rollout_id", "gate__metric", "stage_index", "verdict", "value", "threshold",
        "control_value", "devices", "samples", "at",
    ]  # fmt: skip
    empty_hint = "No gate has answered yet. The gates of a rollout are asked while it runs."

    @display(description="Rollout", ordering="gate__rollout")
    def rollout(self, row: GateEvaluation) -> str:
        return str(row.gate.rollout)

    @display(description="Gate", ordering="gate__metric")
    def metric(self, row: GateEvaluation) -> str:
        return row.gate.title

    @display(description="Stage", ordering="stage_index")
    def stage(self, row: GateEvaluation) -> int:
        return row.stage_index + 1

    @display(description="Verdict", ordering="verdict", label=VERDICT_COLOURS)
    def verdict_label(self, row: GateEvaluation) -> str:
        return row.verdict.replace("_", " ").upper()

    evaluated = time_column("At", "at")


class ResolvedFilter(admin.SimpleListFilter):
    """Incidents of devices by whether they are over."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("firing", "Firing"), ("resolved", "Resolved")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[DeviceIncident]
    ) -> QuerySet[DeviceIncident]:
        if self.value() not in ("firing", "resolved"):
            return queryset
        return queryset.filter(resolved_at__isnull=self.value() == "firing")


@admin.register(DeviceIncident)
class DeviceIncidentAdmin(ReadOnlyAdmin):
    """What devices themselves found wrong, the newest first."""

    list_display = [
        "what", "device_link", "state_label", "value_shown", "threshold_shown", "opened",
        "resolved",
    ]  # fmt: skip
    list_filter = [ResolvedFilter, "kind", "model_slug", "metric"]
    list_select_related = ["device"]
    search_fields = ["device__device_id", "model_slug", "metric"]
    csv_fields = [
        "device__device_id", "kind", "model_slug", "metric", "value", "threshold",
        "manifest_sha256", "opened_at", "reported_at", "resolved_at",
    ]  # fmt: skip
    empty_hint = (
        "A device reports here when its records drift from the baseline of its release, or when "
        "memory, disk, processor or temperature stay past a threshold."
    )
    fields = [
        "what", "device_link", "kind", "model_slug", "state_label", "value_shown", "worst",
        "threshold_shown", "manifest_sha256", "opened", "reported", "resolved",
    ]  # fmt: skip
    readonly_fields = [
        "what", "device_link", "state_label", "value_shown", "threshold_shown", "opened",
        "reported", "resolved",
    ]  # fmt: skip

    @display(description="Incident", ordering="metric")
    def what(self, row: DeviceIncident) -> str:
        name = incident_words(row.kind, row.metric)["name"]
        return f"{name} of {row.model_slug}" if row.model_slug else name

    @display(description="Device", ordering="device")
    def device_link(self, row: DeviceIncident) -> SafeString:
        address = reverse("admin:fleet_device_change", args=[row.device_id])
        return format_html('<a class="fl-link underline" href="{}">{}</a>', address, row.device)

    @display(description="State", label={"Firing": "danger", "Resolved": "success"})
    def state_label(self, row: DeviceIncident) -> str:
        return "Firing" if row.is_firing else "Resolved"

    @display(description="Value", ordering="value")
    def value_shown(self, row: DeviceIncident) -> str:
        return _figure(row, row.value)

    @display(description="Threshold", ordering="threshold")
    def threshold_shown(self, row: DeviceIncident) -> str:
        return _figure(row, row.threshold)

    opened = time_column("Since", "opened_at")
    reported = time_column("Last reported", "reported_at")
    resolved = time_column("Resolved", "resolved_at", never="no")


def _figure(row: DeviceIncident, value: float | None) -> str:
    unit = incident_words(row.kind, row.metric)["unit"]
    return "–" if value is None else f"{value:.4g} {unit}".rstrip()
