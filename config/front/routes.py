"""What each address takes of a body, and who answers it; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

KIB = 1024
MIB = 1024 * KIB


class Who(Enum):
    """Whose credential a long body needs before it is read."""

    ANYBODY = "anybody"
    DEVICE = "device"
    PERSON = "person"


@dataclass(frozen=True)
class Route:
    """How the calls of one kind of address are taken.

    Attributes:
        lane: the threads that answer them.
        max_bytes: of a body.
        who: must be known before more than `free_bytes` are read, or a form with files at all.
        free_bytes: what is read of anybody.
        is_streamed: the body is read while it arrives, in the lane's thread, and not before.
        takes_files: `multipart/form-data` is meant here.
        is_intake: records or summaries, answered in groups where nothing else is to be looked at.
    """

    lane: str
    max_bytes: int
    who: Who
    free_bytes: int = 64 * KIB
    is_streamed: bool = False
    takes_files: bool = False
    is_intake: bool = False


@dataclass(frozen=True)
class Limits:
    """The settings that matter here, in bytes."""

    upload: int
    ingest: int


SAMPLES_BYTES = 17 * MIB
TELEMETRY_BYTES = 512 * KIB
EVENTS_BYTES = 512 * KIB
ENROL_BYTES = 64 * KIB
JSON_BYTES = 1 * MIB
FORM_BYTES = 2 * MIB
SIGN_IN = "/accounts/"
SIGN_IN_BYTES = 16 * KIB
FORM_OVERHEAD_BYTES = 1 * MIB

_UPLOADS = re.compile(r"/api/v1/models/[^/]+/(versions|datasets)/")
_PARTS = re.compile(r"/api/v1/uploads/[^/]+/parts/[0-9]+/")
_COMPLETE = re.compile(r"/api/v1/uploads/[^/]+/complete/")
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def find_route(method: str, path: str, query: str, content_type: str, limits: Limits) -> Route:
    """How this call is taken.

    Args:
        path: decoded, without the query.
        content_type: the header as it came; what it says decides whether a form is streamed.
    """
    has_files = content_type.strip().lower().startswith("multipart/form-data")
    if method not in _BODY_METHODS:
        return Route(_lane_of_reading(path), JSON_BYTES, Who.PERSON, free_bytes=0)
    if path in ("/api/ingest", "/api/summaries"):
        return Route("calls", limits.ingest, Who.DEVICE, is_intake=method == "POST")
    if path == "/api/devices/samples":
        return Route("slow", SAMPLES_BYTES, Who.DEVICE, free_bytes=0, is_streamed=True)
    if path == "/api/devices/telemetry":
        return Route("calls", TELEMETRY_BYTES, Who.DEVICE)
    if path == "/api/devices/enroll":
        return Route("calls", ENROL_BYTES, Who.ANYBODY)
    if path.startswith("/api/deployments/"):
        return Route("calls", EVENTS_BYTES, Who.DEVICE)
    upload = limits.upload + FORM_OVERHEAD_BYTES
    if _UPLOADS.fullmatch(path):
        if has_files:
            return Route("slow", upload, Who.PERSON, 0, is_streamed=True, takes_files=True)
        return Route("slow", JSON_BYTES, Who.PERSON)
    if method == "PUT" and _PARTS.fullmatch(path):
        return Route("slow", limits.upload, Who.PERSON, 0, is_streamed=True)
    if _COMPLETE.fullmatch(path):
        # All the bytes are read once more.
        return Route("slow", JSON_BYTES, Who.PERSON)
    if path.startswith("/api/"):
        lane = "slow" if "wait=" in query else "calls"
        return Route(lane, JSON_BYTES, Who.PERSON)
    if path == "/admin/login/" or path.startswith(SIGN_IN):
        return Route("sign-in", SIGN_IN_BYTES, Who.ANYBODY)
    if path.startswith("/admin/"):
        if has_files:
            return Route("slow", upload, Who.PERSON, 0, is_streamed=True, takes_files=True)
        return Route("calls", FORM_BYTES, Who.PERSON)
    return Route("calls", SIGN_IN_BYTES, Who.ANYBODY)


def _lane_of_reading(path: str) -> str:
    if path.startswith(SIGN_IN) and path.endswith("/callback/"):
        return "sign-in"  # coming back from another service, which is asked meanwhile
    if path in ("/api/models/latest", "/healthz"):
        return "polls"
    if path.startswith(("/blobs/", "/api/agent/")):
        return "slow"
    return "calls"
