"""What parts of the fleet run, in the management API."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.api.bodies import body_fields
from fleet.api.serializers import deployments as shapes
from fleet.api.serializers.rollouts import RolloutDetailSerializer
from fleet.models import (
    Deployment,
)
from fleet.permissions import (
    ADD_ROLLOUT,
    needed_to_release,
)
from fleet.services import deployments, releases
from registry.api.permissions import ModelPermissions
from registry.models import Variant, Version


class DeploymentViewSet(mixins.CreateModelMixin, viewsets.ReadOnlyModelViewSet[Deployment]):
    """What parts of the fleet run."""

    queryset = Deployment.objects.select_related(
        "model", "stable_version__model", "follows__version"
    ).prefetch_related("variants")
    serializer_class = shapes.DeploymentSerializer
    permission_classes = [ModelPermissions]
    act_permissions = {"roll_out_variant": ADD_ROLLOUT}
    filterset_fields = ["name", "state", "model__slug"]

    def needed_permissions(self, request: Request) -> set[str] | None:
        """Another release is a rollout; to give it to all devices at once is a right of its own."""
        if request.method != "PATCH":
            return None
        fields = body_fields(request)
        release = needed_to_release(fields, is_at_once=bool(fields.get("is_at_once")))
        return {"fleet.change_deployment"} | release

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        body = self._serializer(request)
        body.is_valid(raise_exception=True)
        ignored = {"state", "is_at_once", "confirmed_devices"}
        values = {k: v for k, v in body.validated_data.items() if k not in ignored}
        deployment = deployments.create_deployment(actor=request.user.get_username(), **values)
        return Response(self.get_serializer(deployment).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=shapes.DeploymentChangeSerializer)
    @transaction.atomic
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Changes fields; another `stable_version` or other `variants` make a draft of a rollout.

        With `is_at_once` all devices are moved at once, and another selector, priority or state
        may move some at once: `reason` and `confirmed_devices` are then needed, and the refusal
        `confirmation_required` says how many move, from what to what.
        """
        deployment = self.get_object()
        body = self._serializer(request, deployment)
        body.is_valid(raise_exception=True)
        values = {k: v for k, v in body.validated_data.items() if k != "model"}
        options = {
            name: values.pop(name)
            for name in ("is_at_once", "confirmed_devices", "reason")
            if name in values
        }
        release = {
            name: values.pop(name) for name in ("stable_version", "variants") if name in values
        }
        actor = request.user.get_username()
        if values:
            releases.move_deployment(
                deployment_id=deployment.pk,
                actor=actor,
                reason=options.get("reason", ""),
                confirmed_devices=options.get("confirmed_devices"),
                **values,
            )
        rollout = None
        if release:
            rollout = releases.change_release(
                deployment_id=deployment.pk,
                version=release.get("stable_version", deployment.stable_version),
                variants=release.get("variants"),
                actor=actor,
                created_by=request.user,
                **options,
            )
        changed: Any = self.get_queryset().get(pk=deployment.pk)
        changed.proposed_rollout = rollout.pk if rollout else None
        shape = shapes.DeploymentChangeSerializer(changed, context=self.get_serializer_context())
        return Response(shape.data)

    @extend_schema(
        request=shapes.VariantRolloutSerializer, responses={201: RolloutDetailSerializer}
    )
    @action(detail=True, methods=["post"], url_path="roll-out-variant")
    def roll_out_variant(self, request: Request, pk: str) -> Response:
        """A draft that offers one more variant, with the proposed stages."""
        deployment = self.get_object()
        body = shapes.VariantRolloutSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        versions = Version.objects.filter(model=deployment.model)
        if "version" in given:
            versions = versions.filter(version=given["version"])
        else:
            versions = versions.filter(pk=deployment.stable_version_id or 0)
        variant = Variant.objects.filter(version__in=versions, name=given["variant"]).first()
        if variant is None:
            raise serializers.ValidationError({"variant": [f"No variant {given['variant']!r}"]})
        rollout = releases.roll_out_variant(
            deployment_id=deployment.pk,
            variant=variant,
            actor=request.user.get_username(),
            reason=given["reason"],
            created_by=request.user,
        )
        shape = RolloutDetailSerializer(rollout, context=self.get_serializer_context())
        return Response(shape.data, status=status.HTTP_201_CREATED)

    def _serializer(self, request: Request, deployment: Deployment | None = None) -> Any:
        """A serializer that looks versions up among those of the deployment's model."""
        body: Any = self.get_serializer(
            deployment, data=request.data, partial=deployment is not None
        )
        if deployment is not None:
            body.context["model"] = deployment.model
        else:
            slug = str(body_fields(request).get("model", ""))
            body.context["model"] = body.fields["model"].get_queryset().filter(slug=slug).first()
        return body
