"""Addresses of compression below `/api/v1/`."""

from django.urls import path

from compression import api

urlpatterns = [
    path("compression/presets/", api.PresetList.as_view(), name="preset-list"),
    path("compression/jobs/", api.JobList.as_view(), name="job-list"),
    path("compression/jobs/<uuid:pk>/", api.JobDetail.as_view(), name="job-detail"),
    path("compression/jobs/<uuid:pk>/cancel/", api.JobCancel.as_view(), name="job-cancel"),
    path("compression/jobs/<uuid:pk>/rerun/", api.JobRerun.as_view(), name="job-rerun"),
    path(
        "compression/jobs/<uuid:pk>/candidates/",
        api.CandidateList.as_view(),
        name="candidate-list",
    ),
    path(
        "compression/versions/<int:version_id>/variants/",
        api.MeasuredVariantList.as_view(),
        name="measured-variant-list",
    ),
]
