"""Alerts: what needs a person, with acknowledging and muting."""

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display

from ingest.models import AlertRule, Incident, IncidentEvent
from ingest.services.incidents import acknowledge_incident, mute_incident
from registry.admin.base import ReadOnlyAdmin
from registry.admin.columns import state_column
from registry.exceptions import AviaryError

STATUS_COLOURS = {
    "Pending": "info",
    "Firing": "danger",
    "Acknowledged": "warning",
    "No data": "info",
    "Resolved": "success",
}
MUTE_FOR = timedelta(hours=8)


@admin.register(AlertRule)
class AlertRuleAdmin(ModelAdmin):
    list_display = ["name", "model", "metric", "slice", "level", "is_enabled"]
    list_filter = ["is_enabled", "level"]
    list_select_related = ["model"]
    search_fields = ["name", "metric"]


class IncidentEventInline(TabularInline):
    model = IncidentEvent
    extra = 0
    can_delete = False
    fields = ["at", "action", "from_status", "to_status", "actor", "reason", "value", "threshold"]
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    """The alerts list; what is open and not muted comes first."""

    list_display = [
        "headline",
        "status_label",
        "severity_label",
        "value_shown",
        "threshold_shown",
        "opened_at",
        "acknowledged_by",
        "muted_until",
    ]
    list_filter = ["status", "severity", "model", "metric"]
    list_select_related = ["model", "version__model", "rule"]
    search_fields = ["metric", "slice", "model__slug", "version__version"]
    date_hierarchy = "opened_at"
    inlines = [IncidentEventInline]
    csv_fields = [
        "model__slug", "version__version", "metric", "slice", "status", "severity", "value",
        "threshold", "opened_at", "fired_at", "resolved_at", "acknowledged_by", "muted_until",
    ]  # fmt: skip
    empty_hint = "No incident. One opens when drift or an alert rule's metric is above its limit."
    actions = ["acknowledge_selected", "mute_selected", "export_csv"]
    actions_detail = ["acknowledge_one", "open_evaluation"]
    exclude = ["recent", "calm", "before_no_data", "variant_key"]

    @display(description="Incident", ordering="metric")
    def headline(self, row: Incident) -> str:
        return str(row)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Incident]:
        """Single breaches that nothing followed are noise here; the API still lists them."""
        return super().get_queryset(request).exclude(status=Incident.Status.DROPPED)

    @display(description="Value", ordering="value")
    def value_shown(self, row: Incident) -> str:
        return "–" if row.value is None else f"{row.value:.4f}"

    @display(description="Threshold", ordering="threshold")
    def threshold_shown(self, row: Incident) -> str:
        return "–" if row.threshold is None else f"{row.threshold:.3f}"

    status_label = state_column("Status", "status", STATUS_COLOURS)

    @display(
        description="Severity",
        ordering="severity",
        label={"Warning": "warning", "Critical": "danger"},
    )
    def severity_label(self, row: Incident) -> str:
        return row.get_severity_display()

    def has_acknowledge_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("ingest.change_incident")

    @admin.action(description="Acknowledge", permissions=["acknowledge"])
    def acknowledge_selected(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        for incident in queryset:
            self._acknowledge(request, incident.pk)

    @admin.action(description="Mute for 8 hours", permissions=["acknowledge"])
    def mute_selected(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        now = timezone.now()
        for incident in queryset:
            try:
                mute_incident(
                    incident_id=incident.pk,
                    actor=request.user.get_username(),
                    reason="Muted from the alerts list",
                    until=now + MUTE_FOR,
                    now=now,
                )
            except AviaryError as error:
                self.message_user(request, error.message, messages.WARNING)

    @action(description="Acknowledge", permissions=["acknowledge"], icon="check")
    def acknowledge_one(self, request: HttpRequest, object_id: int) -> HttpResponseRedirect:
        self._acknowledge(request, object_id)
        return HttpResponseRedirect(reverse("admin:ingest_incident_change", args=[object_id]))

    @action(description="Open the judgement", icon="monitoring")
    def open_evaluation(self, request: HttpRequest, object_id: int) -> HttpResponseRedirect:
        incident = Incident.objects.select_related("evaluation").get(pk=object_id)
        if incident.evaluation is None:
            return HttpResponseRedirect(reverse("admin:ingest_incident_change", args=[object_id]))
        return HttpResponseRedirect(incident.evaluation.get_absolute_url())

    def _acknowledge(self, request: HttpRequest, incident_id: int) -> None:
        try:
            acknowledge_incident(
                incident_id=incident_id,
                actor=request.user.get_username(),
                now=timezone.now(),
            )
        except AviaryError as error:
            self.message_user(request, error.message, messages.WARNING)
        else:
            self.message_user(
                request, "Acknowledged. Rollouts that a gate holds stay held.", messages.SUCCESS
            )
