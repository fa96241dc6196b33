"""The one error shape of every API: `{"code", "message", "details"}`."""

import logging
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.views import SpectacularSwaggerSplitView
from redis.exceptions import RedisError
from rest_framework import exceptions, status
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.views import set_rollback

from registry.exceptions import AviaryError

logger = logging.getLogger(__name__)

_CODES = {
    400: "bad_request",
    401: "not_authenticated",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
    429: "throttled",
    500: "internal_error",
}


#: What a store raises that is away; the same request may succeed later.
STORE_FAILURES = (OperationalError, InterfaceError, RedisError)
UNAVAILABLE = "A store that this needs does not answer now; come back later."


def error_body(code: str, message: str, details: Any = None) -> dict[str, Any]:
    """The body of an error answer."""
    return {"code": code, "message": message, "details": {} if details is None else details}


class ErrorAnswer(NamedTuple):
    """How an error is told."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


def describe_error(error: Exception) -> ErrorAnswer | None:
    """How an error of ours, or a store that does not answer, is told; None for any other."""
    if isinstance(error, STORE_FAILURES):
        return ErrorAnswer(503, {"Retry-After": "5"}, error_body("unavailable", UNAVAILABLE))
    if not isinstance(error, AviaryError):
        return None
    headers: dict[str, str] = {}
    if error.http_status == status.HTTP_401_UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    retry_after = getattr(error, "retry_after_s", None)
    if retry_after is not None:
        headers["Retry-After"] = str(int(retry_after))
    body = error_body(error.code, error.message, error.details)
    return ErrorAnswer(error.http_status, headers, body)


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turns any exception a view raised into the one error shape; None lets Django answer 500."""
    headers: dict[str, str] = {}
    if isinstance(error, STORE_FAILURES):
        logger.error("%s: a store does not answer: %s", type(context.get("view")).__name__, error)
    own = describe_error(error)
    if own is not None:
        set_rollback()
        return Response(own.body, status=own.status, headers=own.headers)
    if isinstance(error, Http404):
        error = exceptions.NotFound(str(error) or "There is nothing at this address.")
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, DjangoValidationError):
        error = exceptions.ValidationError(
            error.message_dict if hasattr(error, "message_dict") else error.messages
        )
    if not isinstance(error, exceptions.APIException):
        return None
    set_rollback()
    auth_header = getattr(error, "auth_header", None)
    if auth_header:
        headers["WWW-Authenticate"] = auth_header
    wait = getattr(error, "wait", None)
    if wait:
        headers["Retry-After"] = str(int(wait) + 1)
    if isinstance(error, exceptions.ValidationError):
        body = error_body("invalid", "The request has invalid fields.", error.get_full_details())
    else:
        detail = error.detail
        code = getattr(detail, "code", None) or _CODES.get(error.status_code, "error")
        body = error_body(str(code), str(detail))
    return Response(body, status=error.status_code, headers=headers)


def _plain(request: HttpRequest, http_status: int, message: str) -> JsonResponse:
    return JsonResponse(error_body(_CODES[http_status], message), status=http_status)


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's own 400, in the API's shape."""
    return _plain(request, 400, "The request could not be understood.")


def server_error(request: HttpRequest) -> JsonResponse:
    """Django's own 500, in the API's shape and without any detail of the failure."""
    return _plain(request, 500, "The server failed; the failure has been logged.")


_swagger = SpectacularSwaggerSplitView.as_view(url_name="schema", permission_classes=[AllowAny])


def docs(request: HttpRequest) -> HttpResponseBase:
    """The page that describes every call, for those who are signed in unless it is public."""
    if settings.AVIARY_PUBLIC_API_DOCS or request.user.is_authenticated:
        return _swagger(request)
    return redirect_to_login(request.get_full_path())


# Nothing is changed here, and programs bring no cookie: they get the 404 and not a page on CSRF.
@csrf_exempt
def api_not_found(request: HttpRequest, rest: str = "") -> JsonResponse:
    """404 for an address below `/api/` that no route serves."""
    return _plain(request, 404, f"No such API address: {request.path}")
