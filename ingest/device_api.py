"""The device's side of the intake."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.authentication import DeviceAuthentication, IsAcceptedDevice
from fleet.models import Device
from ingest.exceptions import BatchTooLargeError, MalformedBatchError, UnsupportedEncodingError
from ingest.services.intake import Delivery, receive_batches
from ingest.services.summaries import receive_summaries
from registry.quotas import take_quota


def read_body(request: HttpRequest, max_bytes: int) -> bytes:
    """The raw body, never more than `max_bytes` of it.

    Raises:
        BatchTooLargeError: declared or found to be longer.
        MalformedBatchError: the connection broke.
    """
    declared = request.META.get("CONTENT_LENGTH") or "0"
    if declared.isdigit() and int(declared) > max_bytes:
        raise BatchTooLargeError(f"The body has {declared} bytes; at most {max_bytes} are taken.")
    try:
        body = request.read(max_bytes + 1)
    except OSError as error:
        raise MalformedBatchError("The body could not be read to its end.") from error
    if len(body) > max_bytes:
        raise BatchTooLargeError(f"The body is longer than {max_bytes} bytes.")
    return body


def check_content_type(header: str) -> None:
    """Refuses a body that says it is something else than JSON.

    Raises:
        UnsupportedEncodingError: with what it says.
    """
    content_type = header.split(";")[0].strip().lower()
    if content_type not in ("", "application/json", "application/octet-stream"):
        raise UnsupportedEncodingError(f"Content-Type {content_type!r}; expected application/json.")


def take_body(request: Request) -> Delivery:
    """The device and the body of a call of the intake, within the device's quota.

    Raises:
        UnsupportedEncodingError, QuotaError, BatchTooLargeError, MalformedBatchError
    """
    check_content_type(request.META.get("CONTENT_TYPE") or "")
    assert isinstance(request.user, Device)  # `IsAcceptedDevice` lets nobody else in.
    take_quota("ingest", request.user.pk)
    body = read_body(request._request, settings.AVIARY_INGEST_MAX_BYTES)
    return Delivery(request.user, body, request.META.get("HTTP_CONTENT_ENCODING", ""))


class IngestView(APIView):
    """Takes a batch of records; answers after it is stored.

    The web server's front answers the same call in groups, without this view
    (`config.front.intake`); this is what it is measured against, and what other servers use.
    """

    authentication_classes = [DeviceAuthentication]
    permission_classes = [IsAcceptedDevice]
    parser_classes: list[Any] = []

    @extend_schema(
        request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, operation_id="ingest_records"
    )
    def post(self, request: Request) -> Response:
        (outcome,) = receive_batches([take_body(request)], timezone.now())
        if isinstance(outcome, Exception):
            raise outcome
        return Response(outcome)


class SummariesView(APIView):
    """Takes what devices counted themselves; answers after it is stored."""

    authentication_classes = [DeviceAuthentication]
    permission_classes = [IsAcceptedDevice]
    parser_classes: list[Any] = []

    @extend_schema(
        request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, operation_id="ingest_summaries"
    )
    def post(self, request: Request) -> Response:
        (outcome,) = receive_summaries([take_body(request)], timezone.now())
        if isinstance(outcome, Exception):
            raise outcome
        return Response(outcome)
