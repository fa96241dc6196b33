"""Versions, their variants and baselines, and the audit log."""

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response

from registry import hooks, selectors, tasks
from registry.api.nested import NestedListAPIView
from registry.api.parsers import CheckedFormParser, CheckedJSONParser, WholeMultiPartParser
from registry.api.permissions import ChangePermissions, ModelPermissions
from registry.api.serializers import (
    AuditEventSerializer,
    BaselineSerializer,
    ContractSerializer,
    DeviceResultSerializer,
    TransitionSerializer,
    VariantDownloadSerializer,
    VariantSerializer,
    VersionEditSerializer,
    VersionSerializer,
    VersionUploadSerializer,
)
from registry.enqueue import enqueue_after_commit
from registry.exceptions import InvalidFieldError, NotFoundError
from registry.models import AuditEvent, Baseline, DataSet, Variant, Version
from registry.services import versions
from registry.services.blobs import blob_url


def _versions() -> QuerySet[Version]:
    found: QuerySet[Version] = Version.objects.select_related("model", "parent", "dataset")
    return found.prefetch_related("variants__files__blob", "variants__derived_from")


def _answer(version_id: int) -> dict[str, Any]:
    return dict(VersionSerializer(_versions().get(pk=version_id)).data)


def _validate(request: Request, version_id: int) -> None:
    """Before the answer where the caller waits for it, else after."""
    if request.query_params.get("wait") in ("1", "true"):
        versions.validate_version(version_id=version_id)
    else:
        enqueue_after_commit(tasks.validate_version.delay, version_id)


class VersionList(NestedListAPIView):
    """Versions of a model, newest first; POST uploads one."""

    queryset = Version.objects.none()
    serializer_class = VersionSerializer
    permission_classes = [ModelPermissions]
    parser_classes = [WholeMultiPartParser, CheckedFormParser]
    filterset_fields = ["state"]

    def get_queryset(self) -> QuerySet[Version]:
        return _versions().filter(model__slug=self.kwargs.get("slug", ""))

    def find_owner(self) -> object:
        return selectors.get_model(self.kwargs["slug"])

    @extend_schema(
        request={"multipart/form-data": VersionUploadSerializer},
        responses={201: VersionSerializer},
        parameters=[
            OpenApiParameter("wait", bool, description="Validate before answering, not after.")
        ],
    )
    def post(self, request: Request, slug: str) -> Response:
        """The version in the state `validating`; GET it until it is `ready` or `rejected`."""
        form = VersionUploadSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given: dict[str, Any] = form.validated_data
        digests = given.get("digests", {})
        if "file" in given:
            files = [("model.onnx", given["file"], given.get("sha256"))]
        else:
            files = [(file.name, file, digests.get(file.name)) for file in given.get("files", [])]
        if "blobs" in given and not request.user.has_perm("registry.view_variant"):
            # Who may read nothing names no bytes of others.
            self.permission_denied(request, "Naming stored bytes needs registry.view_variant.")
        version = versions.upload_version(
            model_slug=slug,
            version=given["version"],
            files=files,
            stored=given.get("blobs"),
            dataset=self._find_dataset(given.get("dataset")),
            metadata=given.get("metadata", {}),
            actor=request.user.get_username(),
        )
        _validate(request, version.pk)
        return Response(_answer(version.pk), status=status.HTTP_201_CREATED)

    def _find_dataset(self, dataset_id: int | None) -> DataSet | None:
        if dataset_id is None:
            return None
        dataset = DataSet.objects.filter(pk=dataset_id).first()
        if dataset is None:
            raise InvalidFieldError("There is no such data set", {"dataset": dataset_id})
        return dataset


class VersionDetail(generics.GenericAPIView[Version]):
    """One version; PATCH changes its notes and tags."""

    queryset = Version.objects.none()
    serializer_class = VersionSerializer
    permission_classes = [ModelPermissions]
    parser_classes = [CheckedJSONParser]

    def get(self, request: Request, slug: str, version: str) -> Response:
        return Response(_answer(selectors.get_version(slug, version).pk))

    @extend_schema(request=VersionEditSerializer, responses=VersionSerializer)
    def patch(self, request: Request, slug: str, version: str) -> Response:
        form = VersionEditSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        found = selectors.get_version(slug, version)
        versions.edit_version(
            version_id=found.pk, actor=request.user.get_username(), **form.validated_data
        )
        return Response(_answer(found.pk))


class VersionTransition(generics.GenericAPIView[Version]):
    """POST approves, deprecates or yanks a version; yanking needs a reason."""

    queryset = Version.objects.none()
    serializer_class = TransitionSerializer
    permission_classes = [ModelPermissions]
    act_permissions = {"POST": versions.DECIDE_VERSION}

    @extend_schema(request=TransitionSerializer, responses=VersionSerializer)
    def post(self, request: Request, slug: str, version: str) -> Response:
        form = TransitionSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        found = selectors.get_version(slug, version)
        versions.transition_version(
            version_id=found.pk, actor=request.user.get_username(), **form.validated_data
        )
        return Response(_answer(found.pk))


class VersionContract(generics.GenericAPIView[Version]):
    """POST says what the outputs mean, before a release; the version is validated again."""

    queryset = Version.objects.none()
    serializer_class = ContractSerializer
    permission_classes = [ChangePermissions]

    @extend_schema(
        request=ContractSerializer,
        responses=VersionSerializer,
        parameters=[
            OpenApiParameter("wait", bool, description="Validate before answering, not after.")
        ],
    )
    def post(self, request: Request, slug: str, version: str) -> Response:
        form = ContractSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        found = selectors.get_version(slug, version)
        versions.correct_contract(
            version_id=found.pk,
            given=form.validated_data["contract"],
            actor=request.user.get_username(),
            reason=form.validated_data["reason"],
        )
        _validate(request, found.pk)
        return Response(_answer(found.pk))


class VariantList(NestedListAPIView):
    """Variants of a version with their digests and signed manifests."""

    queryset = Variant.objects.none()
    serializer_class = VariantSerializer
    permission_classes = [ModelPermissions]

    def get_queryset(self) -> QuerySet[Variant]:
        found = Variant.objects.filter(
            version__model__slug=self.kwargs.get("slug", ""),
            version__version=self.kwargs.get("version", ""),
        )
        return found.select_related("derived_from").prefetch_related("files__blob")

    def find_owner(self) -> object:
        return selectors.get_version(self.kwargs["slug"], self.kwargs["version"])


class DeviceResultList(generics.GenericAPIView[Variant]):
    """What devices measured of a version's variants when they tried them, by class of hardware."""

    queryset = Variant.objects.none()
    permission_classes = [ModelPermissions]
    pagination_class = None

    @extend_schema(responses={200: DeviceResultSerializer(many=True)})
    def get(self, request: Request, slug: str, version: str) -> Response:
        """A row for each variant and class, the largest classes first; at most 200."""
        found = list(selectors.get_version(slug, version).variants.order_by("pk"))
        results = hooks.device_results(found)
        return Response(
            [
                {"variant": variant.name, **result.as_row()}
                for variant in found
                for result in results.get(variant.pk, ())
            ]
        )


class VariantFileList(generics.GenericAPIView[Variant]):
    """The files of a variant, with addresses that give their bytes for a while."""

    queryset = Variant.objects.none()
    serializer_class = VariantDownloadSerializer  # type: ignore[assignment]
    permission_classes = [ModelPermissions]

    @extend_schema(responses=VariantDownloadSerializer(many=True))
    def get(self, request: Request, slug: str, version: str, variant: str) -> Response:
        found = selectors.get_version(slug, version).variants.filter(name=variant).first()
        if found is None:
            raise NotFoundError(f"There is no variant {variant!r}", {"variant": variant})
        base = settings.AVIARY_PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")
        files = found.files.select_related("blob")
        for file in files:
            file.url = blob_url(  # type: ignore[attr-defined]
                sha256=file.blob_id,
                ttl_seconds=settings.AVIARY_URL_TTL_SECONDS,
                request_base=base,
            )
        return Response(VariantDownloadSerializer(files, many=True).data)


class BaselineDetail(generics.GenericAPIView[Baseline]):
    """The active baseline of a variant."""

    queryset = Baseline.objects.none()
    serializer_class = BaselineSerializer
    permission_classes = [ModelPermissions]

    def get(self, request: Request, slug: str, version: str, variant: str) -> Response:
        found = selectors.get_version(slug, version).variants.filter(name=variant).first()
        baseline = None if found is None else selectors.active_baseline(found)
        if baseline is None:
            raise NotFoundError("There is no baseline", {"variant": variant})
        return Response(BaselineSerializer(baseline).data)


class AuditList(generics.ListAPIView[AuditEvent]):
    """The audit log, newest first."""

    queryset = AuditEvent.objects.all()
    serializer_class = AuditEventSerializer
    permission_classes = [ModelPermissions]
    filterset_fields = ["actor", "action", "object_type", "object_id"]
