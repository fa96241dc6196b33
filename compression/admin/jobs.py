"""Compression in the admin: the list, a page per job with live progress, start and cancel."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.decorators import display

from compression import selectors, tasks
from compression.admin.base import render_page, write_lost, write_seconds
from compression.admin.comparison_page import comparison_csv, comparison_page, comparison_picture
from compression.admin.job_page import describe_job, describe_wait
from compression.admin.start_page import start_page
from compression.exceptions import CompressionError
from compression.models import Job
from compression.recipe.presets import PRESETS
from compression.report.comparison import CANDIDATE_FIELDS, LAYER_FIELDS, layer_rows, pick_fields
from compression.services import jobs
from compression.states import MEASURED_STATES, JobState
from compression.worker.progress import describe_progress
from registry.admin.base import ListAdmin, csv_response
from registry.admin.columns import ago, state_column, time_column
from registry.enqueue import enqueue_after_commit
from registry.models import Version

_COLOURS: dict[str, str] = {
    JobState.QUEUED.label: "info",
    JobState.RUNNING.label: "info",
    JobState.PASSED.label: "success",
    JobState.FAILED_GATE.label: "warning",
    JobState.COLLAPSED.label: "danger",
    JobState.FAILED.label: "danger",
    JobState.TIMED_OUT.label: "danger",
    JobState.CANCELLED.label: "warning",
}


@admin.register(Job)
class JobAdmin(ListAdmin):
    """Jobs are started and cancelled through services; their rows are never edited by hand."""

    list_before_template = "compression/jobs_intro.html"
    list_display = [
        "variant_name",
        "version",
        "preset",
        "state_label",
        "going",
        "ratio",
        "drop",
        "made",
    ]
    list_filter = ["state", "preset", "version__model", "created_at"]
    list_select_related = ["version__model"]
    csv_fields = [
        "pk", "variant_name", "version__model__slug", "version__version", "preset", "state",
        "attempts", "created_by", "created_at", "started_at", "finished_at", "error",
    ]  # fmt: skip
    search_fields = ["variant_name", "version__version", "version__model__slug", "error"]
    date_hierarchy = "created_at"

    state_label = state_column("State", "state", _COLOURS)

    @display(description="Smaller by")
    def ratio(self, obj: Job) -> str:
        return f"{obj.report['ratio']:.2f} ×" if obj.report else "–"

    @display(description="Accuracy lost")
    def drop(self, obj: Job) -> str:
        lost = (obj.report or {}).get("accuracy_drop_points")
        return "–" if lost is None else f"{write_lost(lost)} points"

    @display(description="Progress")
    def going(self, obj: Job) -> str:
        took = _took(obj)
        if obj.state == JobState.QUEUED:
            return "Waiting"
        if obj.state == JobState.RUNNING:
            return describe_wait(describe_progress(obj, now=timezone.now()))
        return "–" if took is None else f"took {write_seconds(took)}"

    made = time_column("Made", "created_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return super().get_queryset(request).select_related("version__model").defer("log")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list, with a sentence about what is going on."""
        running, queued = Job.objects.running().count(), Job.objects.queued().count()
        words = f"{running} running, {queued} queued."
        context = {"active_words": words, "title": "Compression jobs"}
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("<uuid:pk>/cancel/", wrap(self.cancel_view), name="compression_job_cancel"),
            path("<uuid:pk>/rerun/", wrap(self.rerun_view), name="compression_job_rerun"),
            path(
                "<uuid:pk>/candidates.csv",
                wrap(self.candidates_csv),
                name="compression_job_candidates",
            ),
            path(
                "version/<int:version_id>/variants.csv",
                wrap(self.version_csv),
                name="compression_job_version_csv",
            ),
            path(
                "version/<int:version_id>/picture/",
                wrap(self.picture_view),
                name="compression_job_picture",
            ),
            path("<uuid:pk>/live/", wrap(self.live_view), name="compression_job_live"),
            path("<uuid:pk>/layers.csv", wrap(self.layers_csv), name="compression_job_layers"),
            path(
                "version/<int:version_id>/",
                wrap(self.version_view),
                name="compression_job_version",
            ),
        ]
        return own + super().get_urls()

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Starts a job: the version first, then what its model's data sets allow."""
        if not self.has_add_permission(request):
            raise Http404
        return start_page(self, request)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        """The job's page: verdict first, then figures, passes and recipe."""
        job = self._find(request, object_id)
        title = f"{job.variant_name} of {job.version}"
        return render_page(self, request, "job", title, self._job_context(request, job))

    def live_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """The part of the job's page that changes while it runs."""
        job = self._find(request, pk)
        response = TemplateResponse(
            request, "compression/job_live.html", self._job_context(request, job)
        )
        if not job.is_active:
            # The report stands outside of the live part.
            response["HX-Refresh"] = "true"
        return response

    def cancel_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Cancels and returns to the job's page."""
        return require_POST(self._cancel)(request, pk)

    def _cancel(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        job = self._find(request, pk)
        if not self.has_change_permission(request, job):
            raise Http404
        try:
            jobs.cancel_job(job_id=pk, actor=request.user.get_username())
        except CompressionError as error:
            messages.error(request, error.message)
        return redirect(job.get_absolute_url())

    def rerun_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Runs the stored recipe again and goes to the new job's page."""
        return require_POST(self._rerun)(request, pk)

    def _rerun(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        original = self._find(request, pk)
        if not self.has_add_permission(request):
            raise Http404
        try:
            job = jobs.rerun_job(original=original, actor=request.user.get_username())
        except CompressionError as error:
            messages.error(request, error.message)
            return redirect(original.get_absolute_url())
        enqueue_after_commit(tasks.send_job, job.pk)
        return redirect(job.get_absolute_url())

    def candidates_csv(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """The candidates of a search."""
        search = (self._find(request, pk).report or {}).get("search") or {}
        rows = pick_fields(CANDIDATE_FIELDS, search.get("candidates", []))
        return csv_response(f"candidates-{pk}", CANDIDATE_FIELDS, rows)

    def layers_csv(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """How sparse each layer of the result is."""
        report = self._find(request, pk).report
        rows = pick_fields(LAYER_FIELDS, layer_rows(report) if report else [])
        return csv_response(f"layers-{pk}", LAYER_FIELDS, rows)

    def version_csv(self, request: HttpRequest, version_id: int) -> HttpResponseBase:
        """The comparison of a version."""
        return comparison_csv(self._find_version(request, version_id))

    def picture_view(self, request: HttpRequest, version_id: int) -> HttpResponse:
        """The Pareto picture alone."""
        return comparison_picture(request, self._find_version(request, version_id))

    def version_view(self, request: HttpRequest, version_id: int) -> HttpResponse:
        """All measured variants of a version with the Pareto front."""
        return comparison_page(self, request, self._find_version(request, version_id))

    def _find_version(self, request: HttpRequest, version_id: int) -> Version:
        version = Version.objects.select_related("model").filter(pk=version_id).first()
        if version is None or not self.has_view_permission(request):
            raise Http404
        return version

    def _find(self, request: HttpRequest, pk: UUID | str) -> Job:
        if not self.has_view_permission(request):
            raise Http404
        try:
            return selectors.jobs_with_names().get(pk=UUID(str(pk)))
        except (Job.DoesNotExist, ValueError):
            raise Http404 from None

    def _job_context(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        position = None
        if job.state == JobState.QUEUED:
            position = selectors.queue_positions().get(job.pk)
        progress = describe_progress(job, now=timezone.now(), queue_position=position)
        return {
            "job": job,
            "created": ago(job.created_at),
            "finished": ago(job.finished_at),
            "took": write_seconds(took) if (took := _took(job)) is not None else "",
            "preset_title": PRESETS[job.preset].title if job.preset in PRESETS else job.preset,
            "can_cancel": job.is_active and self.has_change_permission(request, job),
            "can_rerun": job.state in MEASURED_STATES and self.has_add_permission(request),
            "on_devices": selectors.results_on_devices(job),
            **describe_job(job, progress),
        }


def _took(job: Job) -> float | None:
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()
