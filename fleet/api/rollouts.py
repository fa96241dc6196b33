"""Rollouts and what devices did with them, in the management API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.api.bodies import ReasonSerializer, body_fields
from fleet.api.serializers import rollouts as shapes
from fleet.api.serializers.devices import InstallationSerializer
from fleet.models import (
    Deployment,
    Installation,
    Rollout,
)
from fleet.permissions import (
    APPROVE_ROLLOUT,
)
from fleet.selectors import stage_powers
from fleet.services import rollouts
from fleet.services.evidence import push_own_evidence
from registry.api.permissions import ModelPermissions


class RolloutViewSet(mixins.CreateModelMixin, viewsets.ReadOnlyModelViewSet[Rollout]):
    """Rollouts: stages, gates beside their thresholds, timeline and the steps people take."""

    queryset = Rollout.objects.select_related(
        "deployment__model", "target_version", "previous_version"
    ).prefetch_related("variants")
    permission_classes = [ModelPermissions]
    act_permissions = {"approve": APPROVE_ROLLOUT}
    filterset_fields = ["state", "deployment"]

    def get_serializer_class(self) -> Any:
        return shapes.RolloutSerializer if self.action == "list" else shapes.RolloutDetailSerializer

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        body: Any = self.get_serializer(data=request.data)
        wanted = str(body_fields(request).get("deployment", ""))
        deployment = Deployment.objects.filter(pk=int(wanted) if wanted.isdigit() else 0).first()
        body.context["model"] = deployment.model if deployment else None
        body.is_valid(raise_exception=True)
        values = dict(body.validated_data)
        rollout = rollouts.create_rollout(
            deployment_id=values.pop("deployment").pk,
            actor=request.user.get_username(),
            created_by=request.user,
            **values,
        )
        return self._answer(rollout, status.HTTP_201_CREATED)

    def _answer(self, rollout: Rollout, code: int = status.HTTP_200_OK) -> Response:
        fresh = self.get_queryset().get(pk=rollout.pk)
        shape = shapes.RolloutDetailSerializer(fresh, context=self.get_serializer_context())
        return Response(shape.data, status=code)

    def _step(self, request: Request, step: Callable[..., Rollout], **extra: Any) -> Response:
        body = ReasonSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        rollout = step(
            rollout_id=self.get_object().pk,
            actor=request.user.get_username(),
            **body.validated_data,
            **extra,
        )
        return self._answer(rollout)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: str) -> Response:
        return self._step(request, rollouts.start_rollout)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        return self._step(request, rollouts.approve_rollout, approved_by=request.user)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def advance(self, request: Request, pk: str) -> Response:
        return self._step(request, rollouts.advance_rollout)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"], url_path="add-reason")
    def add_reason(self, request: Request, pk: str) -> Response:
        """Adds a reason to the timeline, for what was done in a hurry."""
        body = ReasonSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        rollout = rollouts.add_reason(
            rollout_id=self.get_object().pk,
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
        )
        return self._answer(rollout)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        return self._step(request, rollouts.pause_rollout)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        return self._step(request, rollouts.resume_rollout)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def abort(self, request: Request, pk: str) -> Response:
        return self._step(request, rollouts.abort_rollout)

    @extend_schema(
        request=shapes.OwnEvidenceSerializer,
        responses={200: shapes.GateAnswerSerializer, 201: shapes.GateAnswerSerializer},
    )
    @action(detail=True, methods=["post"])
    def evidence(self, request: Request, pk: str) -> Response:
        """Takes a value of a metric of one's own; the same key again answers 200 only."""
        body = shapes.OwnEvidenceSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        said, is_new = push_own_evidence(
            rollout_id=self.get_object().pk,
            actor=request.user.get_username(),
            **body.validated_data,
        )
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        return Response(shapes.GateAnswerSerializer(said).data, status=code)

    @extend_schema(responses=shapes.StagePowerSerializer(many=True))
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def power(self, request: Request, pk: str) -> Response:
        """What each stage can notice with the devices it reaches."""
        rows = [
            {"stage": number, **asdict(power)}
            for number, power in enumerate(stage_powers(self.get_object()), start=1)
        ]
        return Response(shapes.StagePowerSerializer(rows, many=True).data)


class InstallationViewSet(viewsets.ReadOnlyModelViewSet[Installation]):
    """What devices did with what they were offered."""

    queryset = Installation.objects.select_related(
        "device", "model", "version", "variant", "self_test"
    )
    serializer_class = InstallationSerializer
    permission_classes = [ModelPermissions]
    filterset_fields = ["state", "rollout", "deployment", "device__device_id", "model__slug"]
