"""Measured variants and candidates as tables: JSON, or CSV."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from compression import selectors
from compression.api.permissions import JobPermissions
from compression.comparison import CANDIDATE_FIELDS, COMPARISON_FIELDS, pick_fields
from compression.models import Job
from registry.models import Version
from registry.spreadsheets import write_lines


class CsvRenderer(BaseRenderer):
    """Rows as CSV, for `?format=csv` or `Accept: text/csv`; the view names the fields."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None
    ) -> str:
        view = (renderer_context or {}).get("view")
        if not isinstance(data, list) or view is None:  # an error has the one shape of errors
            return json.dumps(data)
        return "".join(write_lines(view.csv_fields, pick_fields(view.csv_fields, data)))


class TableView(generics.GenericAPIView[Job]):
    """Rows of figures as JSON or CSV."""

    queryset = Job.objects.none()
    permission_classes = [IsAuthenticated, JobPermissions]
    renderer_classes = [JSONRenderer, CsvRenderer]
    pagination_class = None
    csv_fields: Sequence[str] = ()


class MeasuredVariantSerializer(serializers.Serializer[Any]):
    """FP32 or a measured variant in the comparison of a version."""

    name = serializers.CharField()
    job = serializers.UUIDField(help_text="The job that measured it.")
    state = serializers.CharField(help_text="`source` for FP32, else the state of the job.")
    is_source = serializers.BooleanField()
    is_on_front = serializers.BooleanField(
        help_text="None is at least as good in size, quality and relative latency, better in one."
    )
    is_promotable = serializers.BooleanField()
    why_not = serializers.CharField(help_text="Why it can never be promoted; empty when it can.")
    bytes = serializers.IntegerField()
    compressed_bytes = serializers.IntegerField(help_text="After zlib, level 6.")
    ratio = serializers.FloatField(help_text="Bytes of FP32 ÷ bytes.")
    accuracy = serializers.FloatField(allow_null=True)
    accuracy_low = serializers.FloatField(allow_null=True, help_text="95 % interval (Wilson).")
    accuracy_high = serializers.FloatField(allow_null=True)
    samples = serializers.IntegerField()
    accuracy_drop_points = serializers.FloatField(allow_null=True)
    agreement = serializers.FloatField(allow_null=True)
    divergence_nats = serializers.FloatField(allow_null=True)
    p50_ms = serializers.FloatField()
    p95_ms = serializers.FloatField()
    p99_ms = serializers.FloatField()
    latency_runs = serializers.IntegerField(allow_null=True)
    relative_p50 = serializers.FloatField(
        allow_null=True, help_text="p50 ÷ p50 of FP32 in the same run."
    )
    parameters = serializers.IntegerField(allow_null=True)
    macs = serializers.IntegerField(allow_null=True)
    zero_share = serializers.FloatField(allow_null=True)
    measured_on = serializers.CharField()
    threads = serializers.IntegerField()
    measured_at = serializers.DateTimeField(allow_null=True)


class MeasuredVariantList(TableView):
    """What compressing a version has cost and gained, with the Pareto front marked."""

    csv_fields = COMPARISON_FIELDS

    @extend_schema(responses={200: MeasuredVariantSerializer(many=True)})
    def get(self, request: Request, version_id: int) -> Response:
        """FP32 and one row per measured job of the version; `?format=csv` for CSV."""
        get_object_or_404(Version, pk=version_id)
        return Response(selectors.measured_variants(version_id))


class CandidateSerializer(serializers.Serializer[Any]):
    """A variant that a search built."""

    name = serializers.CharField()
    passes = serializers.ListField(child=serializers.JSONField())
    bytes = serializers.IntegerField()
    accuracy = serializers.FloatField(allow_null=True)
    accuracy_drop_points = serializers.FloatField(allow_null=True)
    agreement = serializers.FloatField(allow_null=True)
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    judged_on = serializers.ChoiceField(choices=["subset", "full"])
    is_feasible = serializers.BooleanField()
    is_on_front = serializers.BooleanField()
    reason = serializers.CharField()


class CandidateList(TableView):
    """The candidates that a job's search tried; empty for a job without one."""

    csv_fields = CANDIDATE_FIELDS

    @extend_schema(responses={200: CandidateSerializer(many=True)})
    def get(self, request: Request, pk: UUID) -> Response:
        """One row per candidate; `?format=csv` for CSV."""
        job = get_object_or_404(Job, pk=pk)
        search = (job.report or {}).get("search") or {}
        return Response(search.get("candidates", []))
