"""Records of what devices and gates answered, for looking at only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import display

from fleet.admin.base import STATE_COLOURS, VERDICT_COLOURS, ReadOnlyAdmin, relative_time
from fleet.models import GateEvaluation, Installation, InstallationEvent


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
    inlines = [InstallationEventInline]
    show_full_result_count = False

    @display(description="Release", ordering="version")
    def release(self, row: Installation) -> str:
        return f"{row.model.slug} {row.version.version} · {row.variant.name}"

    @display(description="State", ordering="state", label=STATE_COLOURS)
    def state_label(self, row: Installation) -> str:
        return row.get_state_display()

    @display(description="Updated", ordering="updated_at")
    def updated(self, row: Installation) -> SafeString:
        return relative_time(row.updated_at)


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
    show_full_result_count = False

    @display(description="Rollout", ordering="gate__rollout")
    def rollout(self, row: GateEvaluation) -> str:
        return str(row.gate.rollout)

    @display(description="Gate", ordering="gate__metric")
    def metric(self, row: GateEvaluation) -> str:
        return row.gate.get_metric_display()

    @display(description="Stage", ordering="stage_index")
    def stage(self, row: GateEvaluation) -> int:
        return row.stage_index + 1

    @display(description="Verdict", ordering="verdict", label=VERDICT_COLOURS)
    def verdict_label(self, row: GateEvaluation) -> str:
        return row.verdict.replace("_", " ").upper()

    @display(description="At", ordering="at")
    def evaluated(self, row: GateEvaluation) -> SafeString:
        return relative_time(row.at)
