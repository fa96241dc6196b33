"""What devices posted, and what could not be counted of it."""

from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from ingest.models import InboxBatch
from ingest.services.aggregation import retry_batches
from registry.api.permissions import ModelPermissions
from registry.api.strict import KnownFieldsOnly


class InboxBatchSerializer(serializers.ModelSerializer[InboxBatch]):
    """One acknowledged batch; `failed` ones wait for a person, with the error in `problem`."""

    device = serializers.SlugRelatedField[InboxBatch](slug_field="device_id", read_only=True)
    rejected = serializers.SerializerMethodField(help_text="Records that were refused.")

    class Meta:
        model = InboxBatch
        fields = [
            "id", "device", "batch_id", "received_at", "accepted", "duplicates", "rejected",
            "state", "attempts", "problem", "retry_at", "aggregated_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_rejected(self, row: InboxBatch) -> int:
        return len(row.rejected)


class RetrySerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Why a batch is tried again."""

    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class InboxFilter(django_filters.FilterSet):
    """Batches by state and device."""

    device = django_filters.CharFilter(field_name="device__device_id")

    class Meta:
        model = InboxBatch
        fields = ["state"]


class InboxViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[InboxBatch]
):
    """Batches, newest first; `state=failed` are those that could not be counted."""

    queryset = InboxBatch.objects.select_related("device").defer("payload")
    serializer_class = InboxBatchSerializer
    permission_classes = [ModelPermissions]
    filterset_class = InboxFilter

    @extend_schema(request=RetrySerializer, responses=InboxBatchSerializer)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Lets a batch that was set aside be counted again; one that was not is left as it is."""
        body = RetrySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        row = self.get_object()
        retry_batches(
            batch_ids=[row.pk],
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
        )
        row = get_object_or_404(self.get_queryset(), pk=row.pk)
        return Response(self.get_serializer(row).data)
