"""Drift, incidents, windows and latency for people and their tools."""

from datetime import datetime, timedelta
from typing import Any

import django_filters
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema
from rest_framework import exceptions, mixins, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.api import serializers
from ingest.models import DriftEvaluation, DriftPolicy, Incident, Window
from ingest.selectors.summaries import latency_summaries, window_summaries
from ingest.services import incidents, references
from ingest.services.policies import change_policy
from registry.api.filters import TimeFilter
from registry.api.permissions import ChangePermissions, ModelPermissions
from registry.models import Model, Version

LONGEST_SPAN = timedelta(days=31)


class DriftFilter(django_filters.FilterSet):
    """Judgements by model, version, slice, metric, level and time."""

    model = django_filters.CharFilter(field_name="model__slug")
    version = django_filters.CharFilter(field_name="version__version")
    since = TimeFilter(field_name="period_end", lookup_expr="gte")
    until = TimeFilter(field_name="period_end", lookup_expr="lt")

    class Meta:
        model = DriftEvaluation
        fields = ["slice", "metric", "status"]


class DriftViewSet(viewsets.ReadOnlyModelViewSet[DriftEvaluation]):
    """Every judgement of drift, newest first."""

    queryset = DriftEvaluation.objects.select_related("model", "version")
    serializer_class = serializers.DriftEvaluationSerializer
    permission_classes = [ModelPermissions]
    filterset_class = DriftFilter


class IncidentFilter(django_filters.FilterSet):
    """Incidents by model, metric, status and severity; `open=true` for those not over."""

    model = django_filters.CharFilter(field_name="model__slug")
    open = django_filters.BooleanFilter(method="filter_open")

    class Meta:
        model = Incident
        fields = ["status", "severity", "metric", "slice"]

    def filter_open(
        self, queryset: QuerySet[Incident], name: str, value: bool
    ) -> QuerySet[Incident]:
        statuses = Incident.RAISED_STATUSES
        return (
            queryset.filter(status__in=statuses) if value else queryset.exclude(status__in=statuses)
        )


class IncidentViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Incident]
):
    """Incidents, and what a person may do about them."""

    queryset = Incident.objects.select_related("model", "version", "rule").prefetch_related(
        "events", "findings"
    )
    serializer_class = serializers.IncidentSerializer
    permission_classes = [ModelPermissions]
    filterset_class = IncidentFilter

    @extend_schema(request=serializers.AcknowledgeSerializer)
    @action(detail=True, methods=["post"])
    def acknowledge(self, request: Request, pk: str) -> Response:
        """Marks the incident as known; it never unblocks a rollout."""
        body = serializers.AcknowledgeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        incidents.acknowledge_incident(
            incident_id=self.get_object().pk,
            actor=request.user.get_username(),
            now=timezone.now(),
            reason=body.validated_data["reason"],
        )
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=serializers.MuteSerializer)
    @action(detail=True, methods=["post"])
    def mute(self, request: Request, pk: str) -> Response:
        """Hides the incident until a moment at most 30 days away."""
        body = serializers.MuteSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        incidents.mute_incident(
            incident_id=self.get_object().pk,
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
            until=body.validated_data["until"],
            now=timezone.now(),
        )
        return Response(self.get_serializer(self.get_object()).data)


class DriftPolicyView(APIView):
    """How one model is judged: read it, or change some of it."""

    queryset = DriftPolicy.objects.all()
    permission_classes: list[type[BasePermission]] = [ModelPermissions]

    @extend_schema(responses=serializers.DriftPolicySerializer)
    def get(self, request: Request, slug: str) -> Response:
        model = get_object_or_404(Model, slug=slug)
        row = DriftPolicy.objects.filter(model=model).first() or DriftPolicy(model=model)
        return Response(serializers.DriftPolicySerializer(row).data)

    @extend_schema(
        request=serializers.DriftPolicySerializer, responses=serializers.DriftPolicySerializer
    )
    def patch(self, request: Request, slug: str) -> Response:
        model = get_object_or_404(Model, slug=slug)
        row = DriftPolicy.objects.filter(model=model).first() or DriftPolicy(model=model)
        body = serializers.DriftPolicySerializer(row, data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        changed = change_policy(
            model=model, actor=request.user.get_username(), **body.validated_data
        )
        return Response(serializers.DriftPolicySerializer(changed).data)


class ReferenceView(APIView):
    """Pins what the fleet did in a span of time as the reference of a version."""

    queryset = DriftPolicy.objects.all()
    permission_classes: list[type[BasePermission]] = [ChangePermissions]

    @extend_schema(request=serializers.ReferenceSerializer, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, slug: str) -> Response:
        body = serializers.ReferenceSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        version = get_object_or_404(
            Version.objects.select_related("model"), model__slug=slug, version=given["version"]
        )
        baseline = references.pin_fleet_reference(
            version=version,
            start=given["since"],
            end=given["until"],
            reason=given["reason"],
            actor=request.user.get_username(),
        )
        return Response({"sha256": baseline.sha256, "source": baseline.source}, status=201)


_SPAN = [OpenApiParameter("since", datetime), OpenApiParameter("until", datetime)]


def _span(request: Request) -> tuple[datetime, datetime]:
    """`since` and `until` of the query; the last day where they are absent."""
    found: dict[str, datetime] = {}
    for name in ("since", "until"):
        text = request.query_params.get(name)
        if text:
            moment = parse_datetime(text.replace(" ", "+"))
            if moment is None or moment.tzinfo is None:
                raise exceptions.ValidationError({name: "Expected RFC 3339 with a zone."})
            found[name] = moment
    until = found.get("until", timezone.now() + timedelta(minutes=1))
    since = found.get("since", until - timedelta(days=1))
    if not since < until <= since + LONGEST_SPAN:
        raise exceptions.ValidationError({"since": "Expected a span of at most 31 days."})
    return since, until


class _SummaryView(APIView):
    """Base of the two summaries: one model and a span of time."""

    queryset = Window.objects.all()
    permission_classes: list[type[BasePermission]] = [ModelPermissions]

    def summarise(self, request: Request, slug: str, make: Any) -> Response:
        model = get_object_or_404(Model, slug=slug)
        return Response(make(model.pk, *_span(request)))


class WindowSummaryView(_SummaryView):
    """The fleet's counts per window, release and cohort."""

    @extend_schema(parameters=_SPAN, responses=serializers.WindowSummarySerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        return self.summarise(request, slug, window_summaries)


class LatencySummaryView(_SummaryView):
    """p50, p95 and p99 per version and hardware class."""

    @extend_schema(parameters=_SPAN, responses=serializers.LatencySummarySerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        return self.summarise(request, slug, latency_summaries)
