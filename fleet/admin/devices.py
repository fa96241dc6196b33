"""Devices: the list, the page of one device, and what people decide about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet, prefetch_related_objects
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.views import ChangeList

from fleet.admin.base import STATE_COLOURS, actor_of, call_service, release_names, release_words
from fleet.admin.device_page import FRESH, page_context
from fleet.admin.forms import format_labels, parse_labels
from fleet.models import Device, DeviceIncident
from fleet.permissions import DECOMMISSION_DEVICE
from fleet.selectors import prefetch_firing, with_firing
from registry.admin.base import ListAdmin, csv_response
from registry.admin.columns import state_column, time_column
from registry.exceptions import AviaryError
from registry.units import write_count

#: Act to the status it sets and the statuses it may be taken in.
STATUS_ACTS = {
    "accept": ("accepted", {"pending", "suspended"}),
    "suspend": ("suspended", {"accepted"}),
    "reject": ("rejected", {"pending"}),
    "decommission": ("decommissioned", {"accepted", "suspended"}),
}


#: Kinds of incidents that fire on a device, to the theme's colour.
FIRING_COLOURS = {"drift": "danger", "drift+resource": "danger", "resource": "warning"}


class DeviceChangeList(ChangeList):
    """Rows that know what they run and what fires on them, looked up once for the page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)  # type: ignore[has-type]
        prefetch_related_objects(rows, prefetch_firing())
        names = release_names(digest for row in rows for digest in row.running.values())
        for row in rows:
            row.release_names = names
        self.result_list = rows


class SeenFilter(admin.SimpleListFilter):
    """Devices by how lately they were heard."""

    title = "last seen"
    parameter_name = "seen"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("fresh", "In the last 10 minutes"), ("silent", "Longer ago"), ("never", "Never")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        limit = timezone.now() - FRESH
        match self.value():
            case "fresh":
                return queryset.filter(last_seen_at__gte=limit)
            case "silent":
                return queryset.filter(last_seen_at__lt=limit)
            case "never":
                return queryset.filter(last_seen_at__isnull=True)
        return queryset


class QuarantineFilter(admin.SimpleListFilter):
    """Devices that releases are held back from."""

    title = "quarantine"
    parameter_name = "quarantine"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Has quarantined releases")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        return queryset.exclude(quarantined=[]) if self.value() == "yes" else queryset


class FiringFilter(admin.SimpleListFilter):
    """Devices by what they themselves find wrong."""

    title = "fires on the device"
    parameter_name = "firing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("drift", "Drift"), ("resource", "Resources"), ("any", "Anything")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        kinds = DeviceIncident.Kind.values if self.value() == "any" else [str(self.value())]
        return with_firing(queryset, *kinds) if self.value() else queryset


@admin.register(Device)
class DeviceAdmin(ListAdmin):
    """Every device; one's page shows what it runs and why."""

    list_display = [
        "device_id", "status_label", "label_words", "runs", "fires", "seen", "agent_version",
    ]  # fmt: skip
    list_filter = ["status", FiringFilter, SeenFilter, QuarantineFilter, "agent_version"]
    list_select_related: ClassVar[Any] = False  # a device's row has no foreign key
    search_fields = ["device_id", "labels", "attributes"]
    search_help_text = "An id, a label's value, or name=value such as site=lyon"
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
        plain = []
        for word in search_term.split():
            name, sign, value = word.partition("=")
            if sign and name and "__" not in name:
                by_attribute = Q(**{f"attributes__{name}": value})
                queryset = queryset.filter(Q(**{f"labels__{name}": value}) | by_attribute)
            else:
                plain.append(word)
        return super().get_search_results(request, queryset, " ".join(plain))

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
            self._clear(request, device, "")

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
        from fleet.services.devices import set_device_status

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

    def _clear(self, request: HttpRequest, device: Device, reason: str) -> None:
        from fleet.services.devices import clear_quarantine

        call_service(
            request,
            lambda: clear_quarantine(
                device_id=device.device_id, actor=actor_of(request), reason=reason
            ),
            subject=device.device_id,
            done="quarantined releases may be offered again",
        )

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
                if device.status in states and self._may(request, act, device)
            ],
            **(extra_context or {}),
        }
        return TemplateResponse(request, "fleet/device.html", context)

    def _may(self, request: HttpRequest, act: str, device: Device) -> bool:
        """Decommissioning asks for its own permission; all else for changing."""
        if act == "decommission":
            return request.user.has_perm(DECOMMISSION_DEVICE)
        return self.has_change_permission(request, device)

    def act_view(self, request: HttpRequest, pk: int, act: str) -> HttpResponse:
        """One act on one device, then its page again."""
        device = get_object_or_404(Device, pk=pk)
        if not self._may(request, act, device):
            raise PermissionDenied
        reason = request.POST.get("reason", "").strip()[:500]
        acts: dict[str, Callable[[], HttpResponse | None]] = {
            "clear_quarantine": lambda: self._clear(request, device, reason),
            "rotate": lambda: self._rotate(request, device),
            "let_in_again": lambda: self._let_in_again(request, device, reason),
            "labels": lambda: self._label(request, device),
            "pin": lambda: self._pin(request, device, reason),
            "allow_sampling": lambda: self._set_sampling(request, device, True, reason),
            "forbid_sampling": lambda: self._set_sampling(request, device, False, reason),
        }
        if act in STATUS_ACTS:
            response = self._change_status(request, device, act, reason)
        elif act in acts:
            response = acts[act]()
        else:
            raise Http404(f"No act {act}")
        return response or HttpResponseRedirect(
            reverse("admin:fleet_device_change", args=[device.pk])
        )

    def _change_status(
        self, request: HttpRequest, device: Device, act: str, reason: str
    ) -> HttpResponse | None:
        from fleet.services.devices import set_device_status

        status, _ = STATUS_ACTS[act]
        if act in ("suspend", "decommission") and not reason:
            messages.error(request, f"{device}: say why, then {act} again")
            return None
        call_service(
            request,
            lambda: set_device_status(
                device_id=device.device_id, status=status, actor=actor_of(request), reason=reason
            ),
            subject=device.device_id,
            done=f"now {status}",
        )
        return None

    def _let_in_again(self, request: HttpRequest, device: Device, reason: str) -> None:
        from fleet.services.devices import let_in_again

        call_service(
            request,
            lambda: let_in_again(
                device_id=device.device_id, actor=actor_of(request), reason=reason
            ),
            subject=device.device_id,
            done="may enrol again with a join token within seven days",
        )

    def _rotate(self, request: HttpRequest, device: Device) -> HttpResponse | None:
        from fleet.services.devices import rotate_credential

        is_done, secret = call_service(
            request,
            lambda: rotate_credential(device_id=device.device_id, actor=actor_of(request)),
            subject=device.device_id,
            done="credential rotated; earlier tokens no longer work",
        )
        if not is_done:
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": f"New credential of {device}",
            "opts": self.opts,
            "device": device,
            "secret": secret,
        }
        return TemplateResponse(request, "fleet/secret.html", context)

    def _label(self, request: HttpRequest, device: Device) -> HttpResponse | None:
        from django.core.exceptions import ValidationError

        from fleet.services.devices import set_device_labels

        try:
            labels = parse_labels(request.POST.get("labels", ""))
        except ValidationError as error:
            messages.error(request, f"{device}: {' '.join(error.messages)}")
            return None
        call_service(
            request,
            lambda: set_device_labels(
                device_id=device.device_id, labels=labels, actor=actor_of(request)
            ),
            subject=device.device_id,
            done="labels changed",
        )
        return None

    def _pin(self, request: HttpRequest, device: Device, reason: str) -> HttpResponse | None:
        from fleet.services.devices import pin_device

        digest = request.POST.get("manifest_sha256", "") or None
        call_service(
            request,
            lambda: pin_device(
                device_id=device.device_id,
                model=request.POST.get("model", ""),
                manifest_sha256=digest,
                actor=actor_of(request),
                reason=reason,
            ),
            subject=device.device_id,
            done=f"pinned to {digest[:12]}" if digest else "no longer pinned",
        )
        return None

    def _set_sampling(
        self, request: HttpRequest, device: Device, is_allowed: bool, reason: str
    ) -> None:
        from fleet.services.samples import set_sampling

        call_service(
            request,
            lambda: set_sampling(
                device_id=device.device_id,
                is_allowed=is_allowed,
                actor=actor_of(request),
                reason=reason,
            ),
            subject=device.device_id,
            done=f"may {'now' if is_allowed else 'no longer'} send sampled inputs",
        )
