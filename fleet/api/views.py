"""The management API of the fleet, below `/api/v1/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import tasks
from fleet.api import serializers as shapes
from fleet.api.filters import DeviceFilter, DeviceIncidentFilter
from fleet.models import (
    CalibrationBuild,
    Deployment,
    Device,
    DeviceIncident,
    Installation,
    JoinToken,
    Rollout,
)
from fleet.permissions import (
    ADD_ROLLOUT,
    APPROVE_ROLLOUT,
    DECOMMISSION_DEVICE,
    needed_to_release,
)
from fleet.selectors import prefetch_firing, stage_powers
from fleet.services import deployments, devices, enrolment, releases, rollouts, samples
from fleet.services.evidence import push_own_evidence
from registry.api.permissions import ModelPermissions
from registry.api.strict import KnownFieldsOnly
from registry.enqueue import enqueue_after_commit
from registry.models import Variant, Version


def _fields(request: Request) -> Mapping[str, Any]:
    """The body's fields; a body that is not an object is refused."""
    if not hasattr(request.data, "get"):
        raise serializers.ValidationError(
            f"expected a JSON object, got a {type(request.data).__name__}"
        )
    fields: Any = request.data
    return fields


class ReasonSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Why a person does something, and the revision they saw."""

    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)
    revision = serializers.IntegerField(required=False, default=None, allow_null=True)


class JoinTokenViewSet(mixins.CreateModelMixin, viewsets.ReadOnlyModelViewSet[JoinToken]):
    """Secrets that let devices enrol; the secret is answered once, when it is made."""

    queryset = JoinToken.objects.all()
    serializer_class = shapes.JoinTokenSerializer
    permission_classes = [ModelPermissions]

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        token, secret = enrolment.create_join_token(
            actor=request.user.get_username(), created_by=request.user, **body.validated_data
        )
        answer = {**self.get_serializer(token).data, "token": secret}
        return Response(answer, status=status.HTTP_201_CREATED)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        token = self.get_object()
        enrolment.revoke_join_token(token_id=token.pk, actor=request.user.get_username())
        token.refresh_from_db()
        return Response(self.get_serializer(token).data)


class DeviceViewSet(mixins.CreateModelMixin, viewsets.ReadOnlyModelViewSet[Device]):
    """Devices, by their id; what they run, and what people decide about them."""

    queryset = Device.objects.prefetch_related(prefetch_firing())
    serializer_class = shapes.DeviceSerializer
    permission_classes = [ModelPermissions]
    act_permissions = {"decommission": DECOMMISSION_DEVICE}
    filterset_class = DeviceFilter
    lookup_field = "device_id"
    lookup_value_regex = r"[A-Za-z0-9._:-]+"

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        device = devices.register_device(
            device_id=body.validated_data["device_id"],
            labels=body.validated_data.get("labels", {}),
            actor=request.user.get_username(),
        )
        return Response(self.get_serializer(device).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=shapes.DeviceLabelsSerializer, responses=shapes.DeviceSerializer)
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Sets `labels` as a whole where they are named, and changes nothing else."""
        device = self.get_object()
        body = shapes.DeviceLabelsSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        if "labels" in body.validated_data:
            device = devices.set_device_labels(
                device_id=device.device_id,
                labels=body.validated_data["labels"],
                actor=request.user.get_username(),
            )
        return Response(self.get_serializer(device).data)

    def _set_status(self, request: Request, to: str) -> Response:
        body = ReasonSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        device = devices.set_device_status(
            device_id=self.get_object().device_id,
            status=to,
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
        )
        return Response(self.get_serializer(device).data)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, device_id: str) -> Response:
        return self._set_status(request, Device.Status.ACCEPTED)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, device_id: str) -> Response:
        return self._set_status(request, Device.Status.REJECTED)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def suspend(self, request: Request, device_id: str) -> Response:
        return self._set_status(request, Device.Status.SUSPENDED)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def decommission(self, request: Request, device_id: str) -> Response:
        return self._set_status(request, Device.Status.DECOMMISSIONED)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"], url_path="let-in-again")
    def let_in_again(self, request: Request, device_id: str) -> Response:
        """Lets a join token enrol this id once more within seven days; needs a reason."""
        body = ReasonSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        device = devices.let_in_again(
            device_id=self.get_object().device_id,
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
        )
        return Response(self.get_serializer(device).data)

    @extend_schema(request=None, responses=dict)
    @action(detail=True, methods=["post"], url_path="rotate-credential")
    def rotate_credential(self, request: Request, device_id: str) -> Response:
        device = self.get_object()
        secret = devices.rotate_credential(
            device_id=device.device_id, actor=request.user.get_username()
        )
        return Response({"device_id": device.device_id, "token": secret})

    @extend_schema(request=ReasonSerializer, responses=dict)
    @action(detail=True, methods=["post"], url_path="clear-quarantine")
    def clear_quarantine(self, request: Request, device_id: str) -> Response:
        cleared = devices.clear_quarantine(
            device_id=self.get_object().device_id,
            actor=request.user.get_username(),
            manifest_sha256=_fields(request).get("manifest_sha256"),
            reason=str(_fields(request).get("reason", "")),
        )
        return Response({"cleared": cleared})

    def _set_sampling(self, request: Request, is_allowed: bool) -> Response:
        body = ReasonSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        device = samples.set_sampling(
            device_id=self.get_object().device_id,
            is_allowed=is_allowed,
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
        )
        return Response(self.get_serializer(device).data)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"], url_path="allow-sampling")
    def allow_sampling(self, request: Request, device_id: str) -> Response:
        return self._set_sampling(request, True)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"], url_path="forbid-sampling")
    def forbid_sampling(self, request: Request, device_id: str) -> Response:
        return self._set_sampling(request, False)


class DeviceIncidentViewSet(viewsets.ReadOnlyModelViewSet[DeviceIncident]):
    """What devices themselves found wrong: drift on the device, and its resources."""

    queryset = DeviceIncident.objects.select_related("device")
    serializer_class = shapes.DeviceIncidentSerializer
    permission_classes = [ModelPermissions]
    filterset_class = DeviceIncidentFilter


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
        fields = _fields(request)
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

        With `is_at_once` all devices are moved at once: `reason` and `confirmed_devices` are
        needed, and the refusal `confirmation_required` says how many move, from what to what.
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
            deployments.update_deployment(
                deployment_id=deployment.pk,
                actor=actor,
                reason=options.get("reason", ""),
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
        request=shapes.VariantRolloutSerializer, responses={201: shapes.RolloutDetailSerializer}
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
        shape = shapes.RolloutDetailSerializer(rollout, context=self.get_serializer_context())
        return Response(shape.data, status=status.HTTP_201_CREATED)

    def _serializer(self, request: Request, deployment: Deployment | None = None) -> Any:
        """A serializer that looks versions up among those of the deployment's model."""
        body: Any = self.get_serializer(
            deployment, data=request.data, partial=deployment is not None
        )
        if deployment is not None:
            body.context["model"] = deployment.model
        else:
            slug = str(_fields(request).get("model", ""))
            body.context["model"] = body.fields["model"].get_queryset().filter(slug=slug).first()
        return body


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
        wanted = str(_fields(request).get("deployment", ""))
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
    serializer_class = shapes.InstallationSerializer
    permission_classes = [ModelPermissions]
    filterset_fields = ["state", "rollout", "deployment", "device__device_id", "model__slug"]
