"""Addresses of compression below `/api/v1/`."""

from django.urls import path

from compression.api import catalogue, jobs, tables

urlpatterns = [
    path("compression/passes/", catalogue.PassList.as_view(), name="pass-list"),
    path("compression/presets/", catalogue.PresetList.as_view(), name="preset-list"),
    path("compression/jobs/", jobs.JobList.as_view(), name="job-list"),
    path("compression/jobs/<uuid:pk>/", jobs.JobDetail.as_view(), name="job-detail"),
    path("compression/jobs/<uuid:pk>/cancel/", jobs.JobCancel.as_view(), name="job-cancel"),
    path("compression/jobs/<uuid:pk>/rerun/", jobs.JobRerun.as_view(), name="job-rerun"),
    path(
        "compression/jobs/<uuid:pk>/candidates/",
        tables.CandidateList.as_view(),
        name="candidate-list",
    ),
    path("compression/jobs/<uuid:pk>/layers/", tables.LayerList.as_view(), name="layer-list"),
    path(
        "compression/versions/<int:version_id>/variants/",
        tables.MeasuredVariantList.as_view(),
        name="measured-variant-list",
    ),
]
