"""Alerts: what needs a person, with acknowledging and muting."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget

from ingest.models import AlertRule, Incident, IncidentEvent
from ingest.selectors import incident_page
from ingest.services.incidents import acknowledge_incident, mute_incident
from registry.admin.base import ReadOnlyAdmin, form_page
from registry.admin.columns import state_column, time_column
from registry.exceptions import AviaryError

STATUS_COLOURS = {
    "Pending": "info",
    "Firing": "danger",
    "Acknowledged": "warning",
    "No data": "info",
    "Resolved": "success",
}
MUTE_FOR = timedelta(hours=8)


class AcknowledgeForm(forms.Form):
    """What the person who takes an incident over has to say."""

    reason = forms.CharField(
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Kept in the incident's history.",
    )


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

    change_form_before_template = "ingest/incident_cause.html"
    list_display = [
        "cause",
        "status_label",
        "severity_label",
        "since",
        "devices",
        "version",
        "acknowledged_by",
        "muted_until",
    ]
    list_filter = ["status", "severity", "model", "metric"]
    list_select_related = ["model", "version__model", "rule"]
    search_fields = ["headline", "metric", "slice", "model__slug", "version__version"]
    date_hierarchy = "opened_at"
    inlines = [IncidentEventInline]
    csv_fields = [
        "model__slug", "version__version", "headline", "metric", "slice", "status", "severity",
        "value", "threshold", "opened_at", "fired_at", "resolved_at", "acknowledged_by",
        "muted_until",
    ]  # fmt: skip
    empty_hint = "No incident. One opens when drift or an alert rule's metric is above its limit."
    actions = ["acknowledge_selected", "mute_selected", "export_csv"]
    actions_detail = ["acknowledge_one", "open_evaluation"]
    exclude = ["variant_key"]

    @display(description="Incident", ordering="headline")
    def cause(self, row: Incident) -> str:
        return str(row)

    since = time_column("Since", "opened_at")

    @display(description="Devices changed")
    def devices(self, row: Incident) -> str:
        return row.devices_words or "–"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The cause in words, its course and its findings stand above the fields."""
        incident = self.get_object(request, unquote(object_id))
        context = dict(extra_context or {})
        if incident is not None:
            course = incident_page.incident_course(incident)
            markers = []
            if course:
                markers = incident_page.rollout_markers(
                    incident.model_id, course[0].period_end, course[-1].period_end
                )
            context |= {
                "cause": incident,
                "course": course[::-1],
                "findings": incident.findings.all(),
                "charts": {
                    "bins": [],
                    "history": incident_page.course_chart(course),
                    "metric": incident.metric,
                    "onset": incident.began_at.isoformat(),
                    "markers": markers,
                },
            }
        return super().change_view(request, object_id, form_url, context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Incident]:
        """Single breaches that nothing followed are noise here; the API still lists them."""
        return super().get_queryset(request).exclude(status=Incident.Status.DROPPED)

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
    def acknowledge_one(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Asks once more, since a link is opened by more than people; POST acknowledges."""
        incident = self._find(request, str(object_id))
        address = reverse("admin:ingest_incident_change", args=[object_id])
        return form_page(
            self,
            request,
            form=AcknowledgeForm(request.POST if request.method == "POST" else None),
            act=lambda given: acknowledge_incident(
                incident_id=incident.pk,
                actor=request.user.get_username(),
                reason=given["reason"],
                now=timezone.now(),
            ),
            title=f"Acknowledge {incident}",
            button="Acknowledge",
            back=address,
            done=lambda _: ("Acknowledged. Rollouts that a gate holds stay held.", address),
        )

    @action(description="Open the judgement", icon="monitoring")
    def open_evaluation(self, request: HttpRequest, object_id: str) -> HttpResponseRedirect:
        incident = self._find(request, object_id)
        if incident.evaluation is None:
            return HttpResponseRedirect(reverse("admin:ingest_incident_change", args=[object_id]))
        return HttpResponseRedirect(incident.evaluation.get_absolute_url())

    def _find(self, request: HttpRequest, object_id: str) -> Incident:
        """The incident of an address; a key that names none is 404, whatever it is made of."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        incident: Incident | None = self.get_object(request, unquote(object_id))
        if incident is None:
            raise Http404(f"No incident {object_id}")
        return incident

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
