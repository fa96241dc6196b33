"""Devices: the list and the page of one device."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.views import ChangeList

from fleet.admin.base import STATE_COLOURS, actor_of, release_words
from fleet.admin.device_acts import STATUS_ACTS, DeviceActs
from fleet.admin.device_lists import (
    FIRING_COLOURS,
    MOST_LISTED,
    AgentFilter,
    BoundedPaginator,
    DeviceChangeList,
    FiringFilter,
    QuarantineFilter,
    SeenFilter,
    search_devices,
)
from fleet.admin.device_page import page_context
from fleet.admin.forms import format_labels
from fleet.models import Device
from fleet.services.devices import set_device_status
from registry.admin.base import csv_response
from registry.admin.columns import state_column, time_column
from registry.exceptions import AviaryError
from registry.units import write_count


@admin.register(Device)
class DeviceAdmin(DeviceActs):
    """Every device; one's page shows what it runs and why."""

    list_display = [
        "device_id", "status_label", "label_words", "runs", "fires", "seen", "agent_version",
    ]  # fmt: skip
    list_filter = ["status", FiringFilter, SeenFilter, QuarantineFilter, AgentFilter]
    paginator = BoundedPaginator
    list_select_related: ClassVar[Any] = False  # a device's row has no foreign key
    search_fields = ["device_id"]
    search_help_text = (
        "A part of an id, a label's whole value, or name=value such as site=lyon. "
        f"The first {MOST_LISTED:,} are listed."
    )
    empty_hint = "Devices appear here when their agent enrols; add a join token to let them in."
    actions = ["accept_selected", "suspend_selected", "clear_selected", "export_selected"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        # Devices enrol with a join token; they are not typed in.
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return DeviceChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search_devices(queryset, search_term), False

    status_label = state_column("Status", "status", STATE_COLOURS)

    @display(description="Labels")
    def label_words(self, row: Device) -> str:
        return format_labels({**row.attributes, **row.labels}) or "–"

    @display(description="Runs")
    def runs(self, row: Any) -> str:
        words = [
            release_words(slug, digest, row.release_names)
            for slug, digest in sorted(row.running.items())
        ]
        return ", ".join(words) or "nothing reported"

    @display(description="Fires", label=FIRING_COLOURS)
    def fires(self, row: Any) -> tuple[str, str] | None:
        kinds = sorted({incident.kind for incident in row.firing})
        return ("+".join(kinds), " and ".join(kinds).capitalize()) if kinds else None

    seen = time_column("Last seen", "last_seen_at", never="never")

    # --- acts ---------------------------------------------------------------------------------

    @admin.action(description="Accept", permissions=["change"])
    def accept_selected(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        self._set_status(request, queryset, "accept")

    @admin.action(description="Suspend", permissions=["change"])
    def suspend_selected(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        self._set_status(request, queryset, "suspend")

    @admin.action(description="Clear quarantine", permissions=["change"])
    def clear_selected(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        for device in queryset:
            self.clear(request, device, "")

    @admin.action(description="Export CSV", permissions=["view"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[Device]) -> Any:
        return csv_response(
            "devices",
            ["device_id", "status", "labels", "running", "last_seen_at", "agent_version"],
            (
                [
                    row.device_id, row.status, format_labels(row.labels),
                    format_labels(row.running), row.last_seen_at, row.agent_version,
                ]
                for row in queryset.iterator()
            ),
        )  # fmt: skip

    def _set_status(self, request: HttpRequest, queryset: QuerySet[Device], act: str) -> None:
        status, _ = STATUS_ACTS[act]
        done, refused = 0, []
        for device_id in list(queryset.values_list("device_id", flat=True)):
            try:
                set_device_status(
                    device_id=device_id,
                    status=status,
                    actor=actor_of(request),
                    reason="from the list of devices",
                )
                done += 1
            except AviaryError as error:
                refused.append(f"{device_id}: {error.message}")
        if done:
            messages.success(request, f"{write_count(done, 'device')} now {status}")
        for line in refused[:10]:
            messages.error(request, line)
        if len(refused) > 10:
            messages.error(request, f"and {len(refused) - 10} more were refused")

    # --- the page -----------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/act/<str:act>/", view(require_POST(self.act_view)),
                 name="fleet_device_act"),
            *super().get_urls(),
        ]  # fmt: skip

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """What the device runs and why, and what it has been through."""
        device = self.get_object(request, object_id)
        if device is None:
            raise Http404(f"No device {object_id}")
        if not self.has_view_permission(request, device):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            **page_context(device),
            "title": device.device_id,
            "opts": self.opts,
            "can_act": self.has_change_permission(request, device),
            "status_acts": [
                act
                for act, (_, states) in STATUS_ACTS.items()
                if device.status in states and self.may(request, act, device)
            ],
            **(extra_context or {}),
        }
        return TemplateResponse(request, "fleet/device.html", context)
