"""Rollouts: the list, the page of one rollout, and every step a person may take."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from fleet.admin.base import STATE_COLOURS, actor_of, call_service
from fleet.admin.forms import VariantRolloutForm
from fleet.admin.rollout_form import RolloutFormMixin
from fleet.admin.rollout_page import effect_words, find_rollout, page_context
from fleet.admin.rollout_power import describe_typed
from fleet.models import Rollout
from fleet.permissions import ADD_ROLLOUT, APPROVE_ROLLOUT
from fleet.rules.transitions import is_allowed
from fleet.services.releases import roll_out_variant
from registry.admin.base import ListAdmin, csv_response, form_page
from registry.admin.columns import state_column, time_column
from registry.models import Variant

#: The steps a person may take, in the order of the buttons, with what is said when one is done.
STEPS = {
    "start": "started",
    "approve": "approved",
    "advance": "advanced",
    "pause": "paused",
    "resume": "resumed",
    "abort": "aborted; offers have stopped",
}
#: Steps that are shown with what they touch, and asked for once more.
CONFIRMED_STEPS = frozenset({"advance"})
#: What stops things is done at once, whatever has changed meanwhile; a reason can be added later.
URGENT_STEPS = frozenset({"pause", "abort"})
NOTE = "note"


@admin.register(Rollout)
class RolloutAdmin(RolloutFormMixin, ListAdmin):
    """Every rollout; one's page shows its stages, gates and devices."""

    list_display = ["name", "state_label", "stage", "deployment", "why", "started", "created_by"]
    list_filter = ["state", "deployment", "deployment__model"]
    list_select_related = [
        "deployment", "target_version__model", "previous_version", "created_by",
    ]  # fmt: skip
    search_fields = ["id", "deployment__name", "target_version__version", "reason"]
    empty_hint = "Moves of a deployment to another version, stage by stage. Add one to begin."
    actions = [f"{step}_selected" for step in STEPS] + ["export_selected"]

    def has_step_permission(self, request: HttpRequest, step: str = "") -> bool:
        """Approving asks for its own permission; all else for changing."""
        if step == "approve":
            return request.user.has_perm(APPROVE_ROLLOUT)
        return self.has_change_permission(request)

    def has_approve_permission(self, request: HttpRequest) -> bool:
        return self.has_step_permission(request, "approve")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rollout]:
        return super().get_queryset(request).prefetch_related("stages")

    @display(description="Rollout", ordering="id")
    def name(self, row: Rollout) -> str:
        return f"{row.pk} · {versions_words(row)}"

    state_label = state_column("State", "state", STATE_COLOURS)

    @display(description="Stage", ordering="current_stage")
    def stage(self, row: Rollout) -> str:
        return f"{row.current_stage + 1} of {len(row.stages.all())}"

    @display(description="Last reason")
    def why(self, row: Rollout) -> str:
        return row.reason or "–"

    started = time_column("Started", "started_at", never="not yet")

    # --- steps on several ---------------------------------------------------------------------

    @admin.action(description="Start", permissions=["change"])
    def start_selected(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> Any:
        return self._step_selected(request, queryset, "start")

    @admin.action(description="Approve", permissions=["approve"])
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> Any:
        return self._step_selected(request, queryset, "approve")

    @admin.action(description="Advance", permissions=["change"])
    def advance_selected(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> Any:
        return self._step_selected(request, queryset, "advance")

    @admin.action(description="Pause", permissions=["change"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> Any:
        return self._step_selected(request, queryset, "pause")

    @admin.action(description="Resume", permissions=["change"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> Any:
        return self._step_selected(request, queryset, "resume")

    @admin.action(description="Abort", permissions=["change"])
    def abort_selected(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> Any:
        return self._step_selected(request, queryset, "abort")

    @admin.action(description="Export CSV", permissions=["view"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[Rollout]) -> Any:
        return csv_response(
            "rollouts",
            ["id", "deployment", "target", "state", "stage", "started_at", "reason"],
            (
                [
                    row.pk, row.deployment.name, str(row.target_version), row.state,
                    row.current_stage + 1, row.started_at, row.reason,
                ]
                for row in queryset.select_related(*self.list_select_related)
            ),
        )  # fmt: skip

    def _step_selected(
        self, request: HttpRequest, queryset: QuerySet[Rollout], step: str
    ) -> HttpResponse | None:
        """Shows what the step touches and asks for a reason; then takes it on each rollout."""
        rollouts = [
            row for pk in queryset.values_list("pk", flat=True) if (row := find_rollout(pk))
        ]
        reason = request.POST.get("reason", "").strip()[:500]
        # Several aborts are shown first, since a list is easily ticked wrongly; never asked why.
        is_confirmed = "confirmed" in request.POST and (reason or step in URGENT_STEPS)
        if step == "pause" or is_confirmed:
            for rollout in rollouts:
                self._take(request, rollout, step, reason, None)
            return None
        return self._confirm(
            request,
            rollouts,
            step,
            {"action": f"{step}_selected", "is_list": True, "reason": reason},
        )

    def _confirm(
        self, request: HttpRequest, rollouts: list[Rollout], step: str, extra: dict[str, Any]
    ) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{step.capitalize()}?",
            "opts": self.opts,
            "step": step,
            "is_reason_optional": step in URGENT_STEPS,
            "rows": [
                {
                    "rollout": row,
                    "versions": versions_words(row),
                    "effect": effect_words(row, step),
                    "is_allowed": is_allowed(step, row.state),
                }
                for row in rollouts
            ],
            **extra,
        }
        return TemplateResponse(request, "fleet/rollout_confirm.html", context)

    def _take(
        self, request: HttpRequest, rollout: Rollout, step: str, reason: str, revision: int | None
    ) -> None:
        from fleet.services import rollouts as services

        options: dict[str, Any] = {"approved_by": request.user} if step == "approve" else {}
        if step not in URGENT_STEPS:
            options["revision"] = revision
        service = getattr(services, f"{step}_rollout")
        call_service(
            request,
            lambda: service(
                rollout_id=rollout.pk, actor=actor_of(request), reason=reason, **options
            ),
            subject=str(rollout),
            done=STEPS[step] if reason else f"{STEPS[step]}; a reason can be added below",
        )

    def _add_reason(self, request: HttpRequest, rollout: Rollout, reason: str) -> None:
        from fleet.services.rollouts import add_reason

        call_service(
            request,
            lambda: add_reason(rollout_id=rollout.pk, actor=actor_of(request), reason=reason),
            subject=str(rollout),
            done="the reason is in the timeline",
        )

    # --- the page -----------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/live/", view(self.live_view), name="fleet_rollout_live"),
            path("<int:pk>/step/<str:step>/", view(self.step_view), name="fleet_rollout_step"),
            path("power/", view(self.power_view), name="fleet_rollout_power"),
            path("variant/<int:pk>/", view(self.variant_view), name="fleet_rollout_variant"),
            path("<path:object_id>/change/", view(self.change_view), name="fleet_rollout_page"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The rollout: where it stands, what its gates say, what happens next."""
        rollout = self._find(request, object_id)
        context = {**self._page_context(request, rollout), **(extra_context or {})}
        return TemplateResponse(request, "fleet/rollout.html", context)

    def live_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that is fetched again every few seconds."""
        rollout = self._find(request, str(pk))
        return TemplateResponse(
            request, "fleet/rollout_live.html", self._page_context(request, rollout)
        )

    def _find(self, request: HttpRequest, object_id: str) -> Rollout:
        if not self.has_view_permission(request):
            raise PermissionDenied
        rollout = find_rollout(int(object_id)) if object_id.isdecimal() else None
        if rollout is None:
            raise Http404(f"No rollout {object_id}")
        return rollout

    def _page_context(self, request: HttpRequest, rollout: Rollout) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            **page_context(rollout),
            "title": f"Rollout {rollout.pk}",
            "opts": self.opts,
            "versions": versions_words(rollout),
            "is_over": rollout.state in Rollout.TERMINAL_STATES,
            "note_url": reverse("admin:fleet_rollout_step", args=[rollout.pk, NOTE]),
            "can_note": self.has_step_permission(request, NOTE),
            "steps": [
                {
                    "name": step,
                    "effect": effect_words(rollout, step) if step == "abort" else "",
                    "url": reverse("admin:fleet_rollout_step", args=[rollout.pk, step]),
                    "is_confirmed": step in CONFIRMED_STEPS,
                }
                for step in STEPS
                if is_allowed(step, rollout.state) and self.has_step_permission(request, step)
            ],
        }

    def step_view(self, request: HttpRequest, pk: int, step: str) -> HttpResponse:
        """Takes one step on POST; steps that reach further are first shown and asked again.

        Pause and abort are taken at once, at any revision and without a reason.
        """
        if step not in STEPS and step != NOTE:
            raise Http404(f"No step {step}")
        rollout = self._find(request, str(pk))
        if not self.has_step_permission(request, step):
            raise PermissionDenied
        reason = request.POST.get("reason", "").strip()[:500]
        revision = request.POST.get("revision", "")
        back = HttpResponseRedirect(reverse("admin:fleet_rollout_change", args=[pk]))
        if request.method == "POST" and step == NOTE:
            self._add_reason(request, rollout, reason)
            return back
        if request.method == "POST" and step in URGENT_STEPS:
            self._take(request, rollout, step, reason, None)
            return back
        if step == NOTE:
            return back
        is_asked = request.method == "POST" and (
            step not in CONFIRMED_STEPS or "confirmed" in request.POST
        )
        if is_asked and reason:
            seen = int(revision) if revision.isdecimal() else None
            self._take(request, rollout, step, reason, seen)
            return back
        if is_asked:
            messages.error(request, f"Say why you {step} it; the reason is kept in its timeline.")
        return self._confirm(
            request,
            [rollout],
            step,
            {
                "is_list": False,
                "reason": reason,
                # The revision the person saw, so that a step never acts on a changed rollout.
                "revision": revision or rollout.revision,
            },
        )

    def power_view(self, request: HttpRequest) -> HttpResponse:
        """What the plan in the form could notice, as far as it is typed; changes nothing."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        lines = describe_typed(request.GET.dict())
        return TemplateResponse(request, "fleet/rollout_power.html", {"lines": lines})

    def variant_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks which deployment is to offer the variant; POST makes the draft of a rollout."""
        if not request.user.has_perm(ADD_ROLLOUT):
            raise PermissionDenied
        variant = get_object_or_404(Variant.objects.select_related("version__model"), pk=pk)
        form = VariantRolloutForm(request.POST or None, variant=variant)
        return form_page(
            self,
            request,
            form=form,
            act=lambda given: roll_out_variant(
                deployment_id=given["deployment"].pk,
                variant=variant,
                actor=actor_of(request),
                reason=given["reason"],
                created_by=request.user,
            ),
            title=f"Roll out {variant}",
            button="Make the draft",
            back=reverse("admin:registry_version_change", args=[variant.version_id]),
            done=lambda rollout: (
                f"{rollout} is a draft: look it over and start it.",
                reverse("admin:fleet_rollout_change", args=[rollout.pk]),
            ),
            intro="It reaches a device only by a rollout: with stages and gates, like a version.",
            consequences=form.describe(),
        )


def versions_words(rollout: Rollout) -> str:
    """`digits-cnn 1.3.2 → 1.4.0`."""
    previous = rollout.previous_version.version if rollout.previous_version else "nothing"
    return f"{rollout.target_version.model.slug} {previous} → {rollout.target_version.version}"
