"""The persons' API of compression."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import generics, serializers, status
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import DjangoModelPermissions, IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from compression import selectors, tasks
from compression.comparison import CANDIDATE_FIELDS, COMPARISON_FIELDS, write_csv
from compression.models import Job
from compression.presets import PRESETS
from compression.progress import Progress, describe_progress
from compression.services import jobs
from compression.states import JobState
from registry.models import DataSet, Variant, Version


class JobPermissions(DjangoModelPermissions):
    """`view` to read, `add` to start, `change` to cancel."""

    perms_map = {
        **DjangoModelPermissions.perms_map,
        "GET": ["%(app_label)s.view_%(model_name)s"],
    }


class CancelPermissions(JobPermissions):
    """Cancelling is a POST that changes a row that exists."""

    perms_map = {**JobPermissions.perms_map, "POST": ["%(app_label)s.change_%(model_name)s"]}


class NewestFirst(CursorPagination):
    """Jobs have random keys: they are paged by when they were made."""

    ordering = ("-created_at", "pk")
    page_size_query_param = "page_size"
    max_page_size = 500


class ProgressSerializer(serializers.Serializer[Any]):
    """How far a job is."""

    fraction = serializers.FloatField(help_text="Of the whole recipe, 0 to 1.")
    eta_seconds = serializers.FloatField(
        allow_null=True, help_text="Until the end of the recipe; null while nothing is known."
    )
    index = serializers.IntegerField(allow_null=True, help_text="The running step, from 0.")
    steps = serializers.IntegerField(help_text="Passes of the recipe, and measuring.")
    name = serializers.CharField(help_text="The running step; empty when none is.")
    done = serializers.IntegerField(allow_null=True, help_text="Parts of the step that are done.")
    total = serializers.IntegerField(allow_null=True)
    step_eta_seconds = serializers.FloatField(allow_null=True)
    queue_position = serializers.IntegerField(
        allow_null=True, help_text="Queued jobs that come first."
    )


class JobRowSerializer(serializers.ModelSerializer[Job]):
    """A job without its report."""

    version_name = serializers.CharField(source="version.__str__", read_only=True)
    progress = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            "id",
            "version",
            "version_name",
            "source_variant",
            "preset",
            "variant_name",
            "calibration_dataset",
            "evaluation_dataset",
            "state",
            "progress",
            "error",
            "result_variant",
            "identity",
            "rerun_of",
            "attempts",
            "created_by",
            "created_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, job: Job) -> Progress:
        if job.state == JobState.QUEUED and not hasattr(self, "_positions"):
            # One query for all rows of a page.
            self._positions = selectors.queue_positions()
        position = self._positions.get(job.pk) if job.state == JobState.QUEUED else None
        return describe_progress(job, now=timezone.now(), queue_position=position)


class JobSerializer(JobRowSerializer):
    """A job with its recipe, its report and its last events."""

    class Meta(JobRowSerializer.Meta):
        fields = [*JobRowSerializer.Meta.fields, "is_cancel_requested", "recipe", "report", "log"]
        read_only_fields = fields


class SubmissionSerializer(JobSerializer):
    """The job of an order, and whether it was there already."""

    is_answered_from_cache = serializers.BooleanField(read_only=True)

    class Meta(JobSerializer.Meta):
        fields = [*JobSerializer.Meta.fields, "is_answered_from_cache"]
        read_only_fields = fields


class JobOrderSerializer(serializers.Serializer[Any]):
    """What a job is started with: a preset, an own recipe, or a preset with changed sections."""

    version = serializers.PrimaryKeyRelatedField(queryset=Version.objects.select_related("model"))
    preset = serializers.ChoiceField(choices=list(PRESETS), required=False)
    recipe = serializers.JSONField(required=False)
    calibration_dataset = serializers.PrimaryKeyRelatedField(
        queryset=DataSet.objects.select_related("model"), required=False, allow_null=True
    )
    evaluation_dataset = serializers.PrimaryKeyRelatedField(
        queryset=DataSet.objects.select_related("model")
    )
    source_variant = serializers.PrimaryKeyRelatedField(
        queryset=Variant.objects.all(), required=False, allow_null=True
    )
    variant_name = serializers.RegexField(
        r"^[a-z0-9][a-z0-9.-]{0,55}$", required=False, allow_blank=True
    )

    def validate_recipe(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise serializers.ValidationError("Expected a JSON object.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("preset") and not attrs.get("recipe"):
            raise serializers.ValidationError("Name a preset or give a recipe.")
        return attrs


class JobList(generics.ListAPIView[Job]):
    """Compression jobs, newest first; POST starts one."""

    queryset = Job.objects.none()
    serializer_class = JobRowSerializer
    permission_classes = [IsAuthenticated, JobPermissions]
    pagination_class = NewestFirst
    filterset_fields = ["state", "version", "preset"]

    def get_queryset(self) -> QuerySet[Job]:
        return selectors.jobs_with_names().defer("report", "log")

    @extend_schema(
        request=JobOrderSerializer,
        responses={201: SubmissionSerializer, 200: SubmissionSerializer},
    )
    def post(self, request: Request) -> Response:
        """The queued job (201); GET it until its state is final.

        An order equal to one that is active or was measured is answered with that job (200).
        """
        form = JobOrderSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        submission = jobs.submit_job(actor=request.user.get_username(), **form.validated_data)
        job = submission.job
        if not submission.is_known:
            transaction.on_commit(partial(tasks.send_job, job.pk), robust=True)
        body = {**JobSerializer(job).data, "is_answered_from_cache": submission.is_answered}
        code = status.HTTP_200_OK if submission.is_known else status.HTTP_201_CREATED
        return Response(body, status=code)


class JobDetail(generics.RetrieveAPIView[Job]):
    """One job with its recipe, its last events and, once it ended, its report."""

    queryset = Job.objects.none()
    serializer_class = JobSerializer
    permission_classes = [IsAuthenticated, JobPermissions]

    def get_queryset(self) -> QuerySet[Job]:
        return selectors.jobs_with_names()


class JobCancel(generics.GenericAPIView[Job]):
    """Stops a job within seconds."""

    queryset = Job.objects.all()
    serializer_class = JobSerializer
    permission_classes = [IsAuthenticated, CancelPermissions]

    @extend_schema(request=None, responses={200: JobSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        """The job, cancelled or asked to stop."""
        self.get_object()
        job = jobs.cancel_job(job_id=pk, actor=request.user.get_username())
        return Response(JobSerializer(job).data)


class JobRerun(generics.GenericAPIView[Job]):
    """Runs a measured job again from its stored recipe."""

    queryset = Job.objects.none()
    serializer_class = JobSerializer
    permission_classes = [IsAuthenticated, JobPermissions]

    def get_queryset(self) -> QuerySet[Job]:
        return selectors.jobs_with_names()

    @extend_schema(request=None, responses={201: JobSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        """The new job; its `report.rerun` says whether the bytes are the same again."""
        job = jobs.rerun_job(original=self.get_object(), actor=request.user.get_username())
        transaction.on_commit(partial(tasks.send_job, job.pk), robust=True)
        return Response(JobSerializer(job).data, status=status.HTTP_201_CREATED)


class PresetList(APIView):
    """Recipes offered by name."""

    @extend_schema(responses={200: serializers.ListSerializer(child=serializers.JSONField())})
    def get(self, request: Request) -> Response:
        """Slug, title, summary and recipe of each preset."""
        rows = [
            {
                "slug": preset.slug,
                "title": preset.title,
                "summary": preset.summary,
                "variant_name": preset.variant,
                "recipe": preset.recipe,
            }
            for preset in PRESETS.values()
        ]
        return Response(rows)


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
        return write_csv(view.csv_fields, data)


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
