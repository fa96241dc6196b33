"""Deployments: which devices run which version."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from fleet.admin.base import STATE_COLOURS, actor_of, call_service, selector_words
from fleet.admin.forms import DeploymentForm
from fleet.foresight import check_confirmed, foresee
from fleet.models import Deployment
from fleet.notices import deployment_notices
from fleet.permissions import needed_to_release
from fleet.services.deployments import create_deployment, update_deployment
from fleet.services.releases import change_release, move_deployment
from registry.admin.base import ListAdmin
from registry.admin.columns import state_column, time_column
from registry.exceptions import AviaryError


@admin.register(Deployment)
class DeploymentAdmin(ListAdmin):
    """Added, changed and retired through the services, so that plans follow at once.

    Retired, not deleted: installations and rollouts point at it.
    """

    form = DeploymentForm
    list_display = [
        "name", "model", "takes", "stable", "state_label", "priority", "rollout", "updated",
    ]  # fmt: skip
    list_filter = ["state", "model"]
    list_select_related = ["model", "stable_version"]
    search_fields = ["name", "model__slug", "stable_version__version"]
    actions = ["retire_selected", "reactivate_selected", "export_csv"]
    csv_fields = [
        "name", "model__slug", "selector", "stable_version__version", "state", "priority",
        "updated_at",
    ]  # fmt: skip
    empty_hint = "What parts of the fleet run: a model, a selector and a stable version. Add one."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return super().get_queryset(request).prefetch_related("rollouts", "variants")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["model"] if obj else []

    @display(description="Takes")
    def takes(self, row: Deployment) -> str:
        return selector_words(row.selector)

    @display(description="Stable version", ordering="stable_version")
    def stable(self, row: Deployment) -> str:
        if row.stable_version is None:
            return "none"
        names = ", ".join(variant.name for variant in row.variants.all()) or "no variant"
        state = row.stable_version.state
        words = "" if state == "approved" else f", {row.stable_version.get_state_display().lower()}"
        return f"{row.stable_version.version} ({names}{words})"

    state_label = state_column("State", "state", STATE_COLOURS)

    @display(description="Rollout")
    def rollout(self, row: Deployment) -> SafeString | str:
        live = [item for item in row.rollouts.all() if item.state not in item.TERMINAL_STATES]
        if not live:
            return "–"
        url = reverse("admin:fleet_rollout_change", args=[live[0].pk])
        words = f"{live[0].pk}: {live[0].get_state_display()}"
        return format_html('<a class="text-primary-600" href="{}">{}</a>', url, words)

    updated = time_column("Changed", "updated_at")

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        form.service_error = getattr(request, "service_error", None)
        return form

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            with transaction.atomic():
                return super().changeform_view(request, *args, **kwargs)
        except AviaryError as error:
            # Shown on the form again, with all that was typed.
            request.service_error = error.message  # type: ignore[attr-defined]
            return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """The services' work; the form's own object is never saved."""
        given = dict(form.cleaned_data)
        options = {name: given.pop(name) for name in ("is_at_once", "confirmed_devices", "reason")}
        if not change:
            self._create(request, obj, given, options)
            return
        changes = {name: given[name] for name in form.changed_data if name in given}
        release = {
            name: changes.pop(field)
            for name, field in (("stable_version", "stable_version"), ("variants", "variant_names"))
            if field in changes
        }
        needed = needed_to_release({**release, **changes}, is_at_once=options["is_at_once"])
        if not all(request.user.has_perm(name) for name in needed):
            raise PermissionDenied
        if changes:
            self._update(request, obj, changes, options)
        if release:
            request.proposed_rollout = change_release(  # type: ignore[attr-defined]
                deployment_id=obj.pk,
                version=release.get("stable_version", given["stable_version"]),
                variants=release.get("variants"),
                actor=actor_of(request),
                created_by=request.user,
                **options,
            )

    def _create(
        self, request: HttpRequest, obj: Any, given: dict[str, Any], options: dict[str, Any]
    ) -> None:
        fields = {
            **given,
            "variants": given["variant_names"],
            "reason": options["reason"],
            "actor": actor_of(request),
        }
        del fields["variant_names"]
        effect = foresee(given["model"].pk, lambda: create_deployment(**fields))
        # Devices that had nothing are what a new deployment is for; taking some away is asked.
        check_confirmed(effect.without_newcomers(), options["confirmed_devices"])
        obj.pk = create_deployment(**fields).pk
        messages.info(request, effect.words())

    def _update(
        self, request: HttpRequest, obj: Any, changes: dict[str, Any], options: dict[str, Any]
    ) -> None:
        fields = {
            "deployment_id": obj.pk,
            "actor": actor_of(request),
            "reason": options["reason"],
            **changes,
        }
        move_deployment(**fields, confirmed_devices=options["confirmed_devices"])

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """The draft of the rollout that the change has made, or the list."""
        rollout = getattr(request, "proposed_rollout", None)
        if rollout is None:
            return super().response_change(request, obj)
        messages.success(
            request,
            f"{rollout} to {rollout.target_version} is a draft: look it over and start it.",
        )
        return HttpResponseRedirect(reverse("admin:fleet_rollout_change", args=[rollout.pk]))

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """The form below what should be known of the deployment."""
        obj = kwargs.get("obj")
        if obj is not None and request.method == "GET":
            for line in deployment_notices(obj):
                messages.warning(request, line)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.action(description="Retire", permissions=["change"])
    def retire_selected(self, request: HttpRequest, queryset: QuerySet[Deployment]) -> None:
        self._set_state(request, queryset, Deployment.State.RETIRED)

    @admin.action(description="Reactivate", permissions=["change"])
    def reactivate_selected(self, request: HttpRequest, queryset: QuerySet[Deployment]) -> None:
        self._set_state(request, queryset, Deployment.State.ACTIVE)

    def _set_state(
        self, request: HttpRequest, queryset: QuerySet[Deployment], state: Deployment.State
    ) -> None:
        for row in queryset:
            call_service(
                request,
                partial(
                    update_deployment,
                    deployment_id=row.pk,
                    actor=actor_of(request),
                    state=state,
                ),
                subject=row.name,
                done=f"now {state.label.lower()}",
            )
