"""The form that adds a rollout: its options, stages and gates, handed to one service."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.admin import TabularInline

from fleet.admin.base import actor_of
from fleet.admin.forms import GateForm, RolloutForm, StageForm
from fleet.models import Gate, Rollout, RolloutStage
from fleet.rules.gate_metrics import PROPOSED_GATES
from fleet.selectors import propose_stages
from registry.exceptions import AviaryError


class ProposedInline(TabularInline):
    """Rows with proposed values; only on the form that adds."""

    hide_title = True

    def proposed(self) -> list[dict[str, Any]]:
        """The values of the rows."""
        raise NotImplementedError

    def get_extra(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> int:
        return len(self.proposed())

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Whoever may add a rollout says what its stages and gates are.
        return obj is None and request.user.has_perm("fleet.add_rollout")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("fleet.view_rollout")


class StageInline(ProposedInline):
    """The stages, in order."""

    model = RolloutStage
    form = StageForm
    verbose_name_plural = "Stages, in order; the last reaches 100 percent"

    def proposed(self) -> list[dict[str, Any]]:
        return propose_stages()


class GateInline(ProposedInline):
    """The gates that every stage must keep."""

    model = Gate
    form = GateForm
    verbose_name_plural = "Gates: limits a stage must keep; rows without a threshold are left out"

    def proposed(self) -> list[dict[str, Any]]:
        return PROPOSED_GATES


class RolloutFormMixin:
    """Adds a rollout through `create_rollout`, with the service's refusals as form errors."""

    form = RolloutForm
    inlines = [StageInline, GateInline]
    change_form_after_template = "fleet/rollout_form_power.html"

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)  # type: ignore[misc]
        form.service_error = getattr(request, "service_error", None)
        return form

    def get_formset_kwargs(
        self, request: HttpRequest, obj: Any, inline: Any, prefix: str
    ) -> dict[str, Any]:
        kwargs = super().get_formset_kwargs(request, obj, inline, prefix)  # type: ignore[misc]
        if request.method == "GET" and isinstance(inline, ProposedInline):
            kwargs["initial"] = inline.proposed()
        return kwargs

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            with transaction.atomic():
                return super().changeform_view(request, *args, **kwargs)  # type: ignore[misc]
        except AviaryError as error:
            # Shown on the form again, with all that was typed.
            request.service_error = error.message  # type: ignore[attr-defined]
            return super().changeform_view(request, *args, **kwargs)  # type: ignore[misc]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing yet: the service writes the rollout with its stages and gates at once."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        from fleet.services.rollouts import create_rollout

        rows: dict[type, list[dict[str, Any]]] = {RolloutStage: [], Gate: []}
        for formset in formsets:
            rows[formset.model] = [_fields(row) for row in formset.forms if _is_kept(row)]
            # The admin's log asks what a formset saved; the service records that itself.
            formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        options = dict(form.cleaned_data)
        rollout = create_rollout(
            deployment_id=options.pop("deployment").pk,
            target_version=options.pop("target_version"),
            variants=options.pop("variant_names"),
            stages=rows[RolloutStage],
            gates=rows[Gate],
            actor=actor_of(request),
            created_by=request.user,
            **options,
        )
        form.instance.pk = rollout.pk

    def response_add(
        self, request: HttpRequest, obj: Rollout, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The page of the new rollout, where it is looked over and started."""
        return HttpResponseRedirect(reverse("admin:fleet_rollout_change", args=[obj.pk]))


def _is_kept(form: forms.ModelForm) -> bool:
    return form.has_changed() and not form.cleaned_data.get("DELETE")


def _fields(form: forms.ModelForm) -> dict[str, Any]:
    # The formset adds its foreign key and a check box to the fields of the form.
    own = set(form.cleaned_data) - {"rollout", "id", "DELETE"}
    return {name: form.cleaned_data[name] for name in own}
