"""Orders for calibration sets, in the management API."""

from __future__ import annotations

from typing import Any

from rest_framework import mixins, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import tasks
from fleet.api.serializers import samples as shapes
from fleet.models import (
    CalibrationBuild,
)
from fleet.services import samples
from registry.api.permissions import ModelPermissions
from registry.enqueue import enqueue_after_commit


class CalibrationBuildViewSet(
    mixins.CreateModelMixin, viewsets.ReadOnlyModelViewSet[CalibrationBuild]
):
    """Orders for calibration sets made of fleet samples; POST makes one, GET says how it goes."""

    queryset = CalibrationBuild.objects.select_related("model")
    serializer_class = shapes.CalibrationBuildSerializer
    permission_classes = [ModelPermissions]
    filterset_fields = ["state", "model__slug"]

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        build = samples.request_calibration(
            actor=request.user.get_username(), **body.validated_data
        )
        enqueue_after_commit(tasks.build_calibration.delay, build.pk)
        return Response(self.get_serializer(build).data, status=status.HTTP_201_CREATED)
