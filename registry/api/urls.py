"""Addresses of the registry below `/api/v1/`."""

from django.urls import path

from registry.api import models, uploads, versions

_MODEL = "models/<str:slug>/"
_VERSION = f"{_MODEL}versions/<str:version>/"

urlpatterns = [
    path("models/", models.ModelList.as_view(), name="model-list"),
    path(_MODEL, models.ModelDetail.as_view(), name="model-detail"),
    path(f"{_MODEL}datasets/", models.DataSetList.as_view(), name="dataset-list"),
    path(f"{_MODEL}datasets/<int:pk>/split/", models.DataSetSplit.as_view(), name="dataset-split"),
    path(f"{_MODEL}aliases/", models.AliasList.as_view(), name="alias-list"),
    path(f"{_MODEL}aliases/<str:name>/", models.AliasDetail.as_view(), name="alias-detail"),
    path(
        f"{_MODEL}aliases/<str:name>/protection/",
        models.AliasProtection.as_view(),
        name="alias-protection",
    ),
    path(f"{_MODEL}versions/", versions.VersionList.as_view(), name="version-list"),
    path(_VERSION, versions.VersionDetail.as_view(), name="version-detail"),
    path(f"{_VERSION}transition/", versions.VersionTransition.as_view(), name="version-transition"),
    path(
        f"{_VERSION}device-results/",
        versions.DeviceResultList.as_view(),
        name="device-result-list",
    ),
    path(f"{_VERSION}contract/", versions.VersionContract.as_view(), name="version-contract"),
    path(f"{_VERSION}variants/", versions.VariantList.as_view(), name="variant-list"),
    path(
        f"{_VERSION}variants/<str:variant>/baseline/",
        versions.BaselineDetail.as_view(),
        name="variant-baseline",
    ),
    path(
        f"{_VERSION}variants/<str:variant>/files/",
        versions.VariantFileList.as_view(),
        name="variant-files",
    ),
    path("uploads/", uploads.UploadList.as_view(), name="upload-list"),
    path("uploads/<uuid:pk>/", uploads.UploadDetail.as_view(), name="upload-detail"),
    path("uploads/<uuid:pk>/parts/", uploads.PartAddresses.as_view(), name="upload-parts"),
    path("uploads/<uuid:pk>/parts/<int:number>/", uploads.PartDetail.as_view(), name="upload-part"),
    path("uploads/<uuid:pk>/complete/", uploads.UploadComplete.as_view(), name="upload-complete"),
    path("audit/", versions.AuditList.as_view(), name="audit-list"),
]
