"""Measured variants, candidates and layers as tables: JSON, or CSV; and the Pareto picture."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from compression import selectors
from compression.api.renderers import CsvRenderer, SvgRenderer
from compression.api.rows import CandidateSerializer, LayerSerializer, MeasuredVariantSerializer
from compression.models import Job
from compression.report.comparison import (
    CANDIDATE_FIELDS,
    COMPARISON_FIELDS,
    LAYER_FIELDS,
    layer_rows,
)
from registry.api.permissions import ModelPermissions
from registry.models import Version


class TableView(generics.GenericAPIView[Job]):
    """Rows of figures as JSON or CSV."""

    queryset = Job.objects.none()
    permission_classes = [ModelPermissions]
    renderer_classes = [JSONRenderer, CsvRenderer]
    pagination_class = None
    csv_fields: Sequence[str] = ()


class MeasuredVariantList(TableView):
    """What compressing a version has cost and gained, with the Pareto front marked."""

    renderer_classes = [JSONRenderer, CsvRenderer, SvgRenderer]
    csv_fields = COMPARISON_FIELDS
    picture_title = "Measured variants"

    @extend_schema(responses={200: MeasuredVariantSerializer(many=True)})
    def get(self, request: Request, version_id: int) -> Response:
        """FP32 and one row per measured job; `?format=csv` for CSV, `?format=svg` for the picture.

        The picture shows size against accuracy (agreement where no labels are), speed as colour.
        """
        version = get_object_or_404(Version.objects.select_related("model"), pk=version_id)
        self.picture_title = f"Measured variants of {version}"
        return Response(selectors.measured_variants(version_id))


class CandidateList(TableView):
    """The candidates that a job's search tried; empty for a job without one."""

    csv_fields = CANDIDATE_FIELDS

    @extend_schema(responses={200: CandidateSerializer(many=True)})
    def get(self, request: Request, pk: UUID) -> Response:
        """One row per candidate; `?format=csv` for CSV."""
        search = _find_report(pk).get("search") or {}
        return Response(search.get("candidates", []))


class LayerList(TableView):
    """How sparse each layer of a job's result is; empty for a job without a report."""

    csv_fields = LAYER_FIELDS

    @extend_schema(responses={200: LayerSerializer(many=True)})
    def get(self, request: Request, pk: UUID) -> Response:
        """One row per layer; `?format=csv` for CSV."""
        report = _find_report(pk)
        return Response(layer_rows(report) if report else [])


def _find_report(job_id: UUID) -> dict[str, Any]:
    job = get_object_or_404(Job.objects.only("report"), pk=job_id)
    return job.report or {}
