"""The device protocol: what devices call; `docs/protocol.md` is its contract."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.authentication import (
    DeviceAuthentication,
    IsAcceptedDevice,
    require_own_id,
)
from fleet.exceptions import InvalidFleetInputError
from fleet.models import Device
from fleet.polling.answers import make_answer, poll_after_s
from fleet.polling.decisions import matches_etag
from fleet.polling.poll_notes import is_local_flush_due
from fleet.polling.poll_notes import note_poll as keep_note
from fleet.rules.assignment import Assignment, assign, etag_of, issue_period
from fleet.rules.facts import read_running
from fleet.selectors import desired_assignments, device_facts, read_plans
from fleet.services import enrolment, telemetry
from fleet.services.installations import (
    MAX_EVENTS,
    check_still_wanted,
    offer_release,
    record_events,
)
from fleet.services.poll_notes import flush_polls
from registry.keys import trust_keys
from registry.manifest import is_sha256
from registry.quotas import caller_address, take_quota
from registry.services import trust


class EnrolSerializer(serializers.Serializer[Any]):
    """What a device sends to join; unknown fields are ignored."""

    device_id = serializers.CharField(max_length=128)
    join_token = serializers.CharField(max_length=256)
    attributes = serializers.DictField(child=serializers.CharField(max_length=256), default=dict)
    capabilities = serializers.DictField(default=dict)
    enrolment_nonce = serializers.CharField(
        min_length=32, max_length=128, allow_blank=True, default=""
    )


class EnrolView(APIView):
    """Lets a device in with a join token and gives it its own credential."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    @extend_schema(request=EnrolSerializer, responses={201: dict, 202: dict})
    def post(self, request: Request) -> Response:
        take_quota("enrol", caller_address(request.META))
        body = EnrolSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        device, token = enrolment.enrol_device(**body.validated_data)
        is_accepted = device.status == Device.Status.ACCEPTED
        return Response(
            {
                "device_id": device.device_id,
                "token": token,
                "status": device.status,
                "trust_keys": trust_keys(),
                "trust_root": trust.newest_root(now=timezone.now()),
                "poll_after_s": poll_after_s(),
            },
            status=status.HTTP_201_CREATED if is_accepted else status.HTTP_202_ACCEPTED,
        )


class DeviceView(APIView):
    """A call that only an accepted device may make, under its own name."""

    authentication_classes = [DeviceAuthentication]
    permission_classes = [IsAcceptedDevice]

    def device(self) -> Device:
        """The device of the credential."""
        device: Device = self.request.user  # type: ignore[assignment]
        return device

    def check_body(self, request: Request) -> Any:
        """The decoded body, refused when it names another device."""
        body = request.data
        if isinstance(body, dict) and "device_id" in body:
            require_own_id(self.device(), body["device_id"])
        return body


class LatestView(DeviceView):
    """What the device should run; only a new offer is written to the database.

    The reference for what `fleet.polling.decisions` answers to many devices at once.
    """

    @extend_schema(
        parameters=[OpenApiParameter("device_id", str), OpenApiParameter("model", str)],
        responses={200: dict, 204: None, 304: None},
    )
    def get(self, request: Request) -> HttpResponse:
        device, now = self.device(), timezone.now()
        wanted = request.query_params.get("model")
        running = request.headers.get("X-Running-Digest", "")[:64]
        running = running if is_sha256(running) else ""
        agent_version = request.headers.get("X-Agent-Version", "")[:64]
        assignment = self._decide(device, wanted)
        answer: HttpResponse
        if assignment is None:
            note_poll(device, wanted or "", running, agent_version)
            return Response(status=status.HTTP_204_NO_CONTENT)
        etag = etag_of(assignment, issue_period(device.device_id, now))
        if matches_etag(request.headers.get("If-None-Match", ""), etag):
            note_poll(device, assignment.model, running, agent_version)
            answer = HttpResponse(status=status.HTTP_304_NOT_MODIFIED)
        else:
            is_offer = running != assignment.manifest_sha256
            if is_offer:
                offer_release(device=device, assignment=assignment, at=now)
            offered = assignment.manifest_sha256 if is_offer else ""
            note_poll(device, assignment.model, running, agent_version, offered=offered)
            answer = Response(
                make_answer(
                    assignment,
                    device.device_id,
                    now,
                    request.build_absolute_uri("/"),
                    delta_from=running if is_offer and device.has_delta_support else "",
                )
            )
        answer["ETag"] = etag
        answer["Cache-Control"] = "private, no-cache"
        return answer

    def _decide(self, device: Device, model: str | None) -> Assignment | None:
        for slug, plan, counter in read_plans(None if model is None else [model]):
            found = assign(plan, counter, device_facts(device, slug))
            if found is not None:
                return found
        return None


class DesiredView(DeviceView):
    """What the device should run, one assignment per model."""

    @extend_schema(responses={200: dict})
    def get(self, request: Request) -> Response:
        device, now = self.device(), timezone.now()
        agent_version = request.headers.get("X-Agent-Version", "")[:64]
        said = read_running(request.headers.get("X-Running-Digests", ""))
        answers = []
        for assignment in desired_assignments(device):
            said_here = said.get(assignment.model, "")
            # An agent that does not say it is taken to run what it reported last.
            running = said_here or device.running.get(assignment.model, "")
            is_offer = running != assignment.manifest_sha256
            if is_offer:
                offer_release(device=device, assignment=assignment, at=now)
            offered = assignment.manifest_sha256 if is_offer else ""
            note_poll(device, assignment.model, said_here, agent_version, offered=offered)
            answers.append(
                make_answer(
                    assignment,
                    device.device_id,
                    now,
                    request.build_absolute_uri("/"),
                    delta_from=running if is_offer and device.has_delta_support else "",
                )
            )
        if not answers:
            note_poll(device, "", "", agent_version)
        return Response({"assignments": answers, "poll_after_s": poll_after_s()})


class EventsView(DeviceView):
    """What the device did with an assignment; kept even when the answer is 409 or 410."""

    @extend_schema(request=dict, responses={200: dict})
    def post(self, request: Request, assignment_id: str) -> Response:
        take_quota("events", self.device().pk)
        body = self.check_body(request)
        events = body if isinstance(body, list) else [body]
        if len(events) > MAX_EVENTS:
            raise InvalidFleetInputError(f"At most {MAX_EVENTS} events in one call")
        for event in events:
            if isinstance(event, dict) and "device_id" in event:
                require_own_id(self.device(), event["device_id"])
        counts = record_events(device=self.device(), assignment_id=assignment_id, events=events)
        device = Device.objects.get(pk=self.device().pk)
        check_still_wanted(device=device, assignment_id=assignment_id)
        return Response(counts)


class TelemetryView(DeviceView):
    """What the device says of itself."""

    @extend_schema(request=dict, responses={200: dict})
    def post(self, request: Request) -> Response:
        take_quota("telemetry", self.device().pk)
        body = self.check_body(request)
        if not isinstance(body, dict):
            raise InvalidFleetInputError("Telemetry is an object")
        device = self.device()
        telemetry.record_telemetry(device=device, report=body)
        # The agent obeys a change of this switch at once, without having to try.
        return Response(
            {
                "accepted": 1,
                "is_sampling_allowed": device.is_sampling_allowed,
                "summary_after_s": settings.AVIARY_SUMMARY_SECONDS,
                "window_s": settings.AVIARY_WINDOW_SECONDS,
                # Records that say `is_counted` are kept and not counted again.
                "takes_counted": True,
            }
        )


def note_poll(
    device: Device, model: str, running: str, agent_version: str, *, offered: str = ""
) -> None:
    """Keeps a poll's note; an embedded server writes its own notes now and then."""
    keep_note(device.pk, model, running, agent_version, offered=offered)
    if is_local_flush_due():
        flush_polls()
