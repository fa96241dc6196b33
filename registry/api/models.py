"""Models, their data sets and aliases."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response

from registry import hooks, selectors
from registry.api.nested import NestedListAPIView
from registry.api.parsers import CheckedFormParser, WholeMultiPartParser
from registry.api.permissions import ModelPermissions
from registry.api.serializers import (
    AliasMoveSerializer,
    AliasProtectionSerializer,
    AliasSerializer,
    DataSetSerializer,
    DataSetSplitSerializer,
    DataSetUploadSerializer,
    ModelSerializer,
)
from registry.models import Alias, DataSet, Model
from registry.services.aliases import MOVE_PROTECTED, move_alias, protect_alias
from registry.services.composition import split_dataset
from registry.services.datasets import register_dataset
from registry.services.models import create_model


class ModelList(generics.ListAPIView[Model]):
    """All models; POST makes one."""

    queryset = Model.objects.all()
    serializer_class = ModelSerializer
    permission_classes = [ModelPermissions]
    filterset_fields = ["task"]

    @extend_schema(request=ModelSerializer, responses={201: ModelSerializer})
    def post(self, request: Request) -> Response:
        form = ModelSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        model = create_model(
            **form.validated_data, owner=request.user, actor=request.user.get_username()
        )
        return Response(ModelSerializer(model).data, status=status.HTTP_201_CREATED)


class ModelDetail(generics.RetrieveAPIView[Model]):
    """One model."""

    queryset = Model.objects.all()
    serializer_class = ModelSerializer
    permission_classes = [ModelPermissions]
    lookup_field = "slug"


class DataSetList(NestedListAPIView):
    """Data sets of a model; POST registers an npz."""

    queryset = DataSet.objects.none()
    serializer_class = DataSetSerializer
    permission_classes = [ModelPermissions]
    parser_classes = [WholeMultiPartParser, CheckedFormParser]
    filterset_fields = ["kind"]

    def get_queryset(self) -> QuerySet[DataSet]:
        slug = self.kwargs.get("slug", "")
        return DataSet.objects.filter(model__slug=slug).select_related("model")

    def find_owner(self) -> object:
        return selectors.get_model(self.kwargs["slug"])

    @extend_schema(request=DataSetUploadSerializer, responses={201: DataSetSerializer})
    def post(self, request: Request, slug: str) -> Response:
        form = DataSetUploadSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given: dict[str, Any] = form.validated_data
        dataset = register_dataset(
            model_slug=slug,
            name=given["name"],
            kind=given["kind"],
            stream=given["file"],
            expected_sha256=given.get("sha256"),
            actor=request.user.get_username(),
        )
        return Response(DataSetSerializer(dataset).data, status=status.HTTP_201_CREATED)


class DataSetSplit(generics.GenericAPIView[DataSet]):
    """POST splits a data set into a calibration and an evaluation set that share no row."""

    queryset = DataSet.objects.none()
    serializer_class = DataSetSplitSerializer
    permission_classes = [ModelPermissions]

    @extend_schema(request=DataSetSplitSerializer, responses={201: DataSetSerializer(many=True)})
    def post(self, request: Request, slug: str, pk: int) -> Response:
        dataset = generics.get_object_or_404(
            DataSet.objects.select_related("model"), pk=pk, model__slug=slug
        )
        form = DataSetSplitSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given: dict[str, Any] = form.validated_data
        parts = split_dataset(
            dataset=dataset,
            share=given["share"],
            names=(given["first"], given["second"]),
            seed=given["seed"],
            actor=request.user.get_username(),
        )
        return Response(DataSetSerializer(parts, many=True).data, status=status.HTTP_201_CREATED)


class AliasList(NestedListAPIView):
    """Aliases of a model."""

    queryset = Alias.objects.none()
    serializer_class = AliasSerializer
    permission_classes = [ModelPermissions]
    pagination_class = None

    def get_queryset(self) -> QuerySet[Alias]:
        slug = self.kwargs.get("slug", "")
        return Alias.objects.filter(model__slug=slug).select_related("version")

    def find_owner(self) -> object:
        return selectors.get_model(self.kwargs["slug"])


class AliasDetail(generics.GenericAPIView[Alias]):
    """PUT moves an alias to a version, and makes it where there is none."""

    queryset = Alias.objects.none()
    serializer_class = AliasMoveSerializer
    permission_classes = [ModelPermissions]

    def get_object(self) -> Alias:
        return generics.get_object_or_404(
            Alias, model__slug=self.kwargs["slug"], name=self.kwargs["name"]
        )

    def needed_permissions(self, request: Request) -> set[str] | None:
        """Moving an alias is a change, and more where others follow it; else PUT makes one."""
        if request.method != "PUT":
            return None
        named = Alias.objects.filter(model__slug=self.kwargs["slug"], name=self.kwargs["name"])
        alias = named.first()
        if alias is None:
            return {"registry.add_alias"}
        return {"registry.change_alias"} | hooks.needed_to_move(alias)

    @extend_schema(request=AliasMoveSerializer, responses=AliasSerializer)
    def put(self, request: Request, slug: str, name: str) -> Response:
        form = AliasMoveSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        alias = move_alias(
            version=selectors.get_version(slug, form.validated_data["version"]),
            name=name,
            reason=form.validated_data["reason"],
            actor=request.user.get_username(),
            may_move_protected=request.user.has_perm(MOVE_PROTECTED),
        )
        return Response(AliasSerializer(alias).data)


class AliasProtection(generics.GenericAPIView[Alias]):
    """POST protects an alias or takes its protection away; both need a reason."""

    queryset = Alias.objects.none()
    serializer_class = AliasProtectionSerializer
    permission_classes = [ModelPermissions]
    act_permissions = {"POST": MOVE_PROTECTED}

    @extend_schema(request=AliasProtectionSerializer, responses=AliasSerializer)
    def post(self, request: Request, slug: str, name: str) -> Response:
        form = AliasProtectionSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        alias = protect_alias(
            alias_id=generics.get_object_or_404(Alias, model__slug=slug, name=name).pk,
            actor=request.user.get_username(),
            **form.validated_data,
        )
        return Response(AliasSerializer(alias).data)
