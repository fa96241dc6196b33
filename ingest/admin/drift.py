"""Drift pages: a model's heatmap and ranking, and the story of one metric."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin
from unfold.decorators import display

from ingest.models import DriftEvaluation, DriftPolicy
from ingest.rules.causes import describe_breach, power_words
from ingest.selectors import drift_page, incident_page
from ingest.services.policies import change_policy
from registry.admin.base import ReadOnlyAdmin, csv_response
from registry.admin.columns import state_column
from registry.models import Model

STATUS_COLOURS = {
    "Healthy": "success",
    "Warning": "warning",
    "Critical": "danger",
    "Insufficient data": "info",
    "No reference": "info",
}
TABLE_FIELDS = (
    "metric",
    "slice",
    "status",
    "value",
    "lower_bound",
    "threshold",
    "threshold_critical",
    "n",
    "n_eff",
    "devices",
    "design_effect",
    "q_value",
    "period_start",
    "period_end",
)


@admin.register(DriftPolicy)
class DriftPolicyAdmin(ModelAdmin):
    list_display = ["model", "is_enabled", "rule", "min_devices", "lookback_windows"]
    list_filter = ["rule", "is_enabled"]
    list_select_related = ["model"]
    search_fields = ["model__slug"]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in form.changed_data if name != "model"}
        row = change_policy(model=obj.model, actor=request.user.get_username(), **values)
        obj.pk = row.pk

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """A policy stays with its model."""
        return [] if obj is None else ["model"]


@admin.register(DriftEvaluation)
class DriftEvaluationAdmin(ReadOnlyAdmin):
    """Every judgement; the models' pages are linked above the list."""

    list_before_template = "ingest/drift_models.html"
    list_display = [
        "metric",
        "slice",
        "version",
        "status_label",
        "value_shown",
        "threshold_shown",
        "n",
        "devices",
        "period_end",
    ]
    list_filter = ["status", "model", "metric"]
    list_select_related = ["version__model"]
    search_fields = ["metric", "slice", "version__version", "model__slug"]
    csv_fields = ["model__slug", "version__version", *TABLE_FIELDS]
    date_hierarchy = "period_end"

    status_label = state_column("Status", "status", STATUS_COLOURS)

    @display(description="Value", ordering="value")
    def value_shown(self, row: DriftEvaluation) -> str:
        return "–" if row.value is None else f"{row.value:.4f}"

    @display(description="Threshold", ordering="threshold")
    def threshold_shown(self, row: DriftEvaluation) -> str:
        return "–" if row.threshold is None else f"{row.threshold:.3f}"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The judgement's own page says more than a form of its fields."""
        if self.get_object(request, unquote(object_id)) is None:
            # As the admin answers for every other row that is not there.
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        return HttpResponseRedirect(reverse("admin:ingest_drift_detail", args=[unquote(object_id)]))

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("details", "rule")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        context = {**(extra_context or {}), "summaries": drift_page.model_summaries()}
        return super().changelist_view(request, context)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("model/<str:slug>/", view(self.model_view), name="ingest_drift_model"),
            path("model/<str:slug>/table.csv", view(self.model_csv), name="ingest_drift_csv"),
            path("<int:pk>/detail/", view(self.detail_view), name="ingest_drift_detail"),
            path("<int:pk>/bins.csv", view(self.bins_csv), name="ingest_drift_bins_csv"),
            path("<int:pk>/history.csv", view(self.history_csv), name="ingest_drift_history_csv"),
            *super().get_urls(),
        ]

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _model_and_version(self, request: HttpRequest, slug: str) -> tuple[Model, list[Any], Any]:
        self._check(request)
        model = get_object_or_404(Model, slug=slug)
        versions = drift_page.versions_judged(model)
        wanted = request.GET.get("version", "")
        chosen = next((row for row in versions if row["version__version"] == wanted), None)
        return model, versions, chosen or (versions[0] if versions else None)

    def model_view(self, request: HttpRequest, slug: str) -> TemplateResponse:
        """Heatmap and ranked table of one model."""
        model, versions, chosen = self._model_and_version(request, slug)
        rows = drift_page.ranked(model, chosen["version_id"]) if chosen else []
        slices = sorted({row.slice for row in rows}, key=lambda name: (name != "all", name))
        slice_name = request.GET.get("slice", "all")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Drift of {model.slug}",
            "model": model,
            "versions": versions,
            "chosen": chosen,
            "slices": slices,
            "slice_name": slice_name,
            "heatmap": (
                drift_page.heatmap(model, chosen["version_id"], slice_name) if chosen else {}
            ),
            "rows": rows,
            "devices_firing": drift_page.devices_firing(model),
            "breaches": [row for row in rows if row.status in DriftEvaluation.BREACHES],
        }
        return TemplateResponse(request, "ingest/drift_model.html", context)

    def model_csv(self, request: HttpRequest, slug: str) -> HttpResponseBase:
        """The ranked table as CSV."""
        model, _, chosen = self._model_and_version(request, slug)
        rows = drift_page.ranked(model, chosen["version_id"]) if chosen else []
        return csv_response(
            f"drift-{model.slug}",
            ["version", *TABLE_FIELDS],
            ([row.version.version, *(getattr(row, name) for name in TABLE_FIELDS)] for row in rows),
        )

    def _evaluation(self, request: HttpRequest, pk: int) -> DriftEvaluation:
        self._check(request)
        rows = DriftEvaluation.objects.select_related("model", "version", "variant", "baseline")
        return get_object_or_404(rows, pk=pk)

    def detail_view(self, request: HttpRequest, pk: int) -> TemplateResponse:
        """Reference and now overlaid, parts of the PSI, and the value over time."""
        row = self._evaluation(request, pk)
        bins = drift_page.bin_rows(row)
        past = drift_page.history(row)
        charts = {
            "bins": bins,
            "history": incident_page.course_chart(past),
            "metric": row.metric,
            "markers": (
                incident_page.rollout_markers(row.model_id, past[0].period_end, past[-1].period_end)
                if past
                else []
            ),
        }
        context = {
            **self.admin_site.each_context(request),
            "title": f"{row.metric} of {row.version} on {row.slice}",
            "row": row,
            "bins": bins,
            "past": past[::-1],
            "charts": charts,
            "power": power_words(row.details, row.n_eff),
            "words": (
                describe_breach(row.metric, row.slice, row.value, row.details)
                if row.status in DriftEvaluation.BREACHES
                else ""
            ),
            "facts": {
                name: row.details[name]
                for name in (
                    "jensen_shannon",
                    "l_infinity",
                    "wasserstein_sigma",
                    "p50_ms",
                    "p95_ms",
                    "p99_ms",
                    "reference_p95_ms",
                    "estimated_accuracy",
                )
                if row.details.get(name) is not None
            },
        }
        return TemplateResponse(request, "ingest/drift_detail.html", context)

    def bins_csv(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The bins of one judgement as CSV."""
        bins = drift_page.bin_rows(self._evaluation(request, pk))
        names = ("name", "reference_count", "current_count", "reference", "current", "contribution")
        return csv_response(f"bins-{pk}", names, ([item[n] for n in names] for item in bins))

    def history_csv(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The judgements of the same metric over time as CSV."""
        past = drift_page.history(self._evaluation(request, pk))
        return csv_response(
            f"history-{pk}", TABLE_FIELDS, ([getattr(i, n) for n in TABLE_FIELDS] for i in past)
        )
