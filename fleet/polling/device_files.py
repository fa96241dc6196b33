"""Device calls that move files: sampled inputs in, the agent's own wheel out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404, HttpResponse
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.exceptions import InvalidFleetInputError
from fleet.models import AgentWheel, Device
from fleet.polling.device_api import DeviceView
from fleet.selectors import desired_assignments
from fleet.services.samples import MAX_BATCH_BYTES, receive_samples, require_sampling
from registry.quotas import take_quota
from registry.services.blobs import open_blob


class RawParser(BaseParser):
    """Leaves the body alone."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return stream


class SamplesView(DeviceView):
    """Sampled inputs, from devices that a person has allowed to send them."""

    parser_classes = [RawParser]

    @extend_schema(request=bytes, responses={202: dict})
    def post(self, request: Request) -> Response:
        device = self.device()
        # Before the body is read: what may not be sent costs the server nothing.
        require_sampling(device)
        take_quota("samples", device.pk)
        stream: Any = request.data
        batch, is_new = receive_samples(
            device=device,
            model_slug=request.query_params.get("model") or _only_model(device),
            body=stream.read(MAX_BATCH_BYTES + 1),
            manifest_sha256=request.query_params.get("manifest", ""),
        )
        answer = {"batch": batch.pk, "size_bytes": batch.size_bytes, "is_new": is_new}
        return Response(answer, status.HTTP_202_ACCEPTED)


def _only_model(device: Device) -> str:
    models = [assignment.model for assignment in desired_assignments(device)]
    if len(models) != 1:
        raise InvalidFleetInputError("Name the model the samples are of: ?model=")
    return models[0]


class AgentView(DeviceView):
    """The agent wheel published last, for a device that asks whether it is up to date."""

    @extend_schema(responses={200: dict})
    def get(self, request: Request) -> Response:
        wheel = AgentWheel.objects.select_related("blob").first()
        if wheel is None:
            raise Http404("This server has no agent wheel.")
        base = settings.AVIARY_PUBLIC_URL or request.build_absolute_uri("/")
        return Response(
            {
                "version": wheel.version,
                "sha256": wheel.blob_id,
                "size_bytes": wheel.blob.size_bytes,
                "url": wheel_url(wheel, base),
            }
        )


class AgentWheelView(APIView):
    """A published wheel's bytes, for `pip install <address>`.

    Open to everybody: a machine installs the agent before it has a credential, and the wheel
    holds no secret. The name in the address is what pip reads the version from.
    """

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    @extend_schema(operation_id="agent_wheel", responses={(200, "application/zip"): bytes})
    def get(self, request: Request, filename: str) -> HttpResponse:
        wheel = AgentWheel.objects.filter(filename=filename).first()
        if wheel is None:
            raise Http404("There is no such agent wheel.")
        with open_blob(wheel.blob_id) as stream:
            content = stream.read()
        return HttpResponse(
            content,
            content_type="application/zip",
            headers={"ETag": f'"{wheel.blob_id}"', "Cache-Control": "public, max-age=300"},
        )


def wheel_url(wheel: AgentWheel, base: str) -> str:
    """Where pip finds the wheel, below the server's address `base`."""
    return base.rstrip("/") + reverse("device-agent-wheel", args=[wheel.filename])
