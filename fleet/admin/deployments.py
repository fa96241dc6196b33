"""Deployments: which devices run which version."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from fleet.admin.base import STATE_COLOURS, actor_of, call_service, selector_words
from fleet.admin.forms import DeploymentForm
from fleet.models import Deployment
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
        return super().get_queryset(request).prefetch_related("rollouts")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["model"] if obj else []

    @display(description="Takes")
    def takes(self, row: Deployment) -> str:
        return selector_words(row.selector)

    @display(description="Stable version", ordering="stable_version")
    def stable(self, row: Deployment) -> str:
        return row.stable_version.version if row.stable_version else "none"

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
        from fleet.services.deployments import create_deployment, update_deployment

        if change:
            changes = {name: form.cleaned_data[name] for name in form.changed_data}
            if changes:
                update_deployment(deployment_id=obj.pk, actor=actor_of(request), **changes)
        else:
            obj.pk = create_deployment(**form.cleaned_data, actor=actor_of(request)).pk

    @admin.action(description="Retire", permissions=["change"])
    def retire_selected(self, request: HttpRequest, queryset: QuerySet[Deployment]) -> None:
        self._set_state(request, queryset, Deployment.State.RETIRED)

    @admin.action(description="Reactivate", permissions=["change"])
    def reactivate_selected(self, request: HttpRequest, queryset: QuerySet[Deployment]) -> None:
        self._set_state(request, queryset, Deployment.State.ACTIVE)

    def _set_state(
        self, request: HttpRequest, queryset: QuerySet[Deployment], state: Deployment.State
    ) -> None:
        from fleet.services.deployments import update_deployment

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
