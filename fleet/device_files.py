"""Device calls that move files: sampled inputs in, the agent's own wheel out."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.device_api import DeviceView
from fleet.exceptions import InvalidFleetInputError
from fleet.models import Device
from fleet.selectors import desired_assignments
from fleet.services.samples import MAX_BATCH_BYTES, receive_samples, require_sampling
from registry.services.blobs import blob_url, store_blob

WHEEL = re.compile(r"aviary_agent-([0-9][A-Za-z0-9.+_]*)-py3-none-any\.whl")


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
    """The newest agent wheel this server has, in `AVIARY_HOME/agent`."""

    @extend_schema(responses={200: dict})
    def get(self, request: Request) -> Response:
        wheels = sorted(
            (path for path in Path(settings.AVIARY_HOME, "agent").glob("*.whl")),
            key=lambda path: path.stat().st_mtime,
        )
        found = WHEEL.fullmatch(wheels[-1].name) if wheels else None
        if found is None:
            raise Http404("This server has no agent wheel.")
        content = wheels[-1].read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        store_blob(stream=io.BytesIO(content), expected_sha256=sha256, max_bytes=len(content))
        base = settings.AVIARY_PUBLIC_URL or request.build_absolute_uri("/")
        url = blob_url(
            sha256=sha256, ttl_seconds=settings.AVIARY_URL_TTL_SECONDS, request_base=base
        )
        return Response(
            {"version": found[1], "sha256": sha256, "size_bytes": len(content), "url": url}
        )
