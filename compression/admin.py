"""Compression in the admin: the list, a page per job with live progress, start and cancel."""

from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.decorators import display

from compression import selectors, tasks
from compression.exceptions import CompressionError
from compression.forms import JobForm
from compression.models import Job
from compression.presentation import describe_job
from compression.services import jobs
from compression.states import JobState
from registry.models import Version

_COLOURS = {
    JobState.QUEUED: "info",
    JobState.RUNNING: "info",
    JobState.PASSED: "success",
    JobState.FAILED_GATE: "warning",
    JobState.COLLAPSED: "danger",
    JobState.FAILED: "danger",
    JobState.TIMED_OUT: "danger",
    JobState.CANCELLED: "warning",
}


@admin.register(Job)
class JobAdmin(ModelAdmin):
    """Jobs are started and cancelled through services; their rows are never edited by hand."""

    list_display = [
        "variant_name",
        "version",
        "preset",
        "state_label",
        "ratio",
        "drop",
        "created_at",
    ]
    list_filter = ["state", "preset", "version__model"]
    list_select_related = ["version__model"]
    search_fields = ["variant_name", "version__version", "version__model__slug", "error"]
    date_hierarchy = "created_at"

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return False

    @display(description="State", ordering="state", label=_COLOURS)
    def state_label(self, obj: Job) -> tuple[str, str]:
        return obj.state, obj.get_state_display()

    @display(description="Smaller by")
    def ratio(self, obj: Job) -> str:
        return f"{obj.report['ratio']:.2f} ×" if obj.report else "–"

    @display(description="Accuracy lost")
    def drop(self, obj: Job) -> str:
        lost = (obj.report or {}).get("accuracy_drop_points")
        return "–" if lost is None else f"{lost:.2f} points"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return super().get_queryset(request).select_related("version__model")

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("<uuid:pk>/cancel/", wrap(self.cancel_view), name="compression_job_cancel"),
            path("<uuid:pk>/live/", wrap(self.live_view), name="compression_job_live"),
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
        """Starts a job from a preset."""
        if not self.has_add_permission(request):
            raise Http404
        form = JobForm(request.POST or None, initial={"version": request.GET.get("version")})
        if request.method == "POST" and form.is_valid():
            try:
                submission = self._start(request, dict(form.cleaned_data))
            except CompressionError as error:
                form.add_error(None, error.message)
            else:
                messages.info(request, submission.sentence)
                return redirect(submission.job.get_absolute_url())
        return self._page(request, "job_form", "Compress a version", {"form": form})

    def _start(self, request: HttpRequest, values: dict[str, Any]) -> jobs.Submission:
        drop = values.pop("max_accuracy_drop_points")
        recipe = {"gates": {"max_accuracy_drop_points": drop}}
        submission = jobs.submit_job(actor=request.user.get_username(), recipe=recipe, **values)
        if not submission.is_known:
            transaction.on_commit(partial(tasks.send_job, submission.job.pk), robust=True)
        return submission

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        """The job's page: verdict first, then figures, passes and recipe."""
        job = self._find(request, object_id)
        return self._page(request, "job", str(job), self._job_context(request, job))

    def live_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """The part of the job's page that changes while it runs."""
        job = self._find(request, pk)
        return TemplateResponse(
            request, "compression/job_live.html", self._job_context(request, job)
        )

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

    def version_view(self, request: HttpRequest, version_id: int) -> HttpResponse:
        """All measured variants of a version with the Pareto front."""
        version = Version.objects.select_related("model").filter(pk=version_id).first()
        if version is None or not self.has_view_permission(request):
            raise Http404
        rows = selectors.measured_variants(version_id)
        title = f"Variants of {version}"
        return self._page(request, "version", title, {"rows": rows, "version": version})

    def _find(self, request: HttpRequest, pk: UUID | str) -> Job:
        if not self.has_view_permission(request):
            raise Http404
        try:
            return selectors.jobs_with_names().get(pk=UUID(str(pk)))
        except (Job.DoesNotExist, ValueError):
            raise Http404 from None

    def _job_context(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        can_cancel = job.is_active and self.has_change_permission(request, job)
        return {"job": job, "can_cancel": can_cancel, **describe_job(job)}

    def _page(
        self, request: HttpRequest, name: str, title: str, context: dict[str, Any]
    ) -> HttpResponse:
        values = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "list_url": reverse("admin:compression_job_changelist"),
            **context,
        }
        return TemplateResponse(request, f"compression/{name}.html", values)
