"""What people do to one device from its page."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse

from fleet.admin.base import actor_of, call_service
from fleet.admin.forms import parse_labels
from fleet.models import Device
from fleet.permissions import DECOMMISSION_DEVICE
from fleet.services.devices import (
    clear_quarantine,
    let_in_again,
    pin_device,
    rotate_credential,
    set_device_labels,
    set_device_status,
)
from fleet.services.samples import set_sampling
from registry.admin.base import ListAdmin

#: Act to the status it sets and the statuses it may be taken in.
STATUS_ACTS = {
    "accept": ("accepted", {"pending", "suspended"}),
    "suspend": ("suspended", {"accepted"}),
    "reject": ("rejected", {"pending"}),
    "decommission": ("decommissioned", {"accepted", "suspended"}),
}


class DeviceActs(ListAdmin):
    """The acts; each is one call of a service."""

    def clear(self, request: HttpRequest, device: Device, reason: str) -> None:
        call_service(
            request,
            lambda: clear_quarantine(
                device_id=device.device_id, actor=actor_of(request), reason=reason
            ),
            subject=device.device_id,
            done="quarantined releases may be offered again",
        )

    def may(self, request: HttpRequest, act: str, device: Device) -> bool:
        """Decommissioning asks for its own permission; all else for changing."""
        if act == "decommission":
            return request.user.has_perm(DECOMMISSION_DEVICE)
        return self.has_change_permission(request, device)

    def act_view(self, request: HttpRequest, pk: int, act: str) -> HttpResponse:
        """One act on one device, then its page again."""
        device = get_object_or_404(Device, pk=pk)
        if not self.may(request, act, device):
            raise PermissionDenied
        reason = request.POST.get("reason", "").strip()[:500]
        acts: dict[str, Callable[[], HttpResponse | None]] = {
            "clear_quarantine": lambda: self.clear(request, device, reason),
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
        call_service(
            request,
            lambda: let_in_again(
                device_id=device.device_id, actor=actor_of(request), reason=reason
            ),
            subject=device.device_id,
            done="may enrol again with a join token within seven days",
        )

    def _rotate(self, request: HttpRequest, device: Device) -> HttpResponse | None:
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
