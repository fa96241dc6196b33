"""The page that starts a job: the version first, then what its model's data sets allow."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.admin import ModelAdmin

from compression import tasks
from compression.admin.base import render_page
from compression.admin.forms import JobForm, VersionForm
from compression.exceptions import CompressionError
from compression.services import jobs
from registry.enqueue import enqueue_after_commit
from registry.models import Version


def start_page(model_admin: ModelAdmin, request: HttpRequest) -> HttpResponse:
    """The form; a POST that can be done goes to the job's page."""
    chooser = VersionForm(request.GET if "version" in request.GET else None)
    version = chooser.cleaned_data["version"] if chooser.is_valid() else None
    form = None
    if version is not None:
        form = JobForm(request.POST or None, version=version)
        if request.method == "POST" and form.is_valid():
            try:
                submission = _start(request, version, form.to_order())
            except CompressionError as error:
                form.add_error(None, error.message)
            else:
                messages.info(request, submission.sentence)
                return redirect(submission.job.get_absolute_url())
    context = {
        "form": form,
        "chooser": chooser,
        "version": version,
        "has_versions": chooser.fields["version"].queryset.exists(),  # type: ignore[attr-defined]
    }
    return render_page(model_admin, request, "job_form", "Compress a version", context)


def _start(request: HttpRequest, version: Version, order: dict[str, Any]) -> jobs.Submission:
    submission = jobs.submit_job(version=version, actor=request.user.get_username(), **order)
    if not submission.is_known:
        enqueue_after_commit(tasks.send_job, submission.job.pk)
    return submission
