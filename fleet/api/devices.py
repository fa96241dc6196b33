"""Devices, how they join and what fires on them, in the management API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.api import batches
from fleet.api.bodies import ReasonSerializer, body_fields
from fleet.api.filters import DeviceFilter, DeviceIncidentFilter
from fleet.api.serializers import devices as shapes
from fleet.models import (
    Device,
    DeviceIncident,
    JoinToken,
)
from fleet.permissions import (
    DECOMMISSION_DEVICE,
)
from fleet.selectors import prefetch_firing
from fleet.services import device_batches, devices, enrolment, samples
from fleet.services.deployments import check_selector
from registry.api.parsers import CheckedJSONParser
from registry.api.permissions import ModelPermissions


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
    act_permissions = {"decommission": DECOMMISSION_DEVICE, "register_many": "fleet.add_device"}
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

    @extend_schema(request=batches.RegisterManySerializer, responses=batches.RegisteredSerializer)
    @action(
        detail=False,
        methods=["post"],
        url_path="register-many",
        parser_classes=[CheckedJSONParser, batches.CsvParser],
    )
    def register_many(self, request: Request) -> Response:
        """Makes up to 10,000 devices known before they call; a row that cannot be stops no other.

        The body may be `text/csv` with a column `device_id`; the other columns are labels.
        """
        body = batches.RegisterManySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        is_dry_run = body.validated_data["is_dry_run"]
        found = device_batches.register_devices(
            rows=body.validated_data["devices"],
            actor=request.user.get_username(),
            is_dry_run=is_dry_run,
        )
        return Response({**asdict(found), "is_dry_run": is_dry_run})

    @extend_schema(request=batches.LabelManySerializer, responses=batches.LabelledSerializer)
    @action(detail=False, methods=["post"], url_path="label-many")
    def label_many(self, request: Request) -> Response:
        """Sets labels of up to 50,000 devices that a selector or a group takes.

        `is_dry_run` says how many would change, and be moved from what to what; the change itself
        needs `confirmed_devices` and a `reason`.
        """
        body = batches.LabelManySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        group = given.get("group")
        found = device_batches.label_devices(
            selector=group.selector if group else check_selector(given["selector"]),
            changes=given["set"],
            actor=request.user.get_username(),
            reason=given["reason"],
            confirmed_devices=given["confirmed_devices"],
            is_dry_run=given["is_dry_run"],
        )
        return Response(
            {
                "devices": found.devices,
                "changed": found.changed,
                "moved": found.moved,
                "moves": device_batches.describe_effects(found.effects),
                "is_dry_run": given["is_dry_run"],
            }
        )

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
            manifest_sha256=body_fields(request).get("manifest_sha256"),
            reason=str(body_fields(request).get("reason", "")),
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
