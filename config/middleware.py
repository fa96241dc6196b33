"""What holds for every address."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from requests import RequestException

from config.api import STORE_FAILURES, UNAVAILABLE, error_body
from config.logs import take_request_id
from config.people import record_failed_login
from registry.quotas import QuotaError, caller_address, take_quota

logger = logging.getLogger(__name__)


class RequestIdMiddleware:
    """Gives each request an id that its lines in the log have, and the answer says it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = take_request_id(request.headers.get("X-Request-ID", ""))
        response = self._get_response(request)
        response.headers["X-Request-ID"] = given
        return response


class SignInQuotaMiddleware:
    """Bounds how often one address tries to sign in: each try costs a password's hash."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        names = (
            "account_login",
            "account_reauthenticate",
            "mfa_authenticate",
            "mfa_reauthenticate",
        )
        self._addresses = {reverse(name) for name in names}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and request.path in self._addresses:
            try:
                take_quota("login", caller_address(request.META))
            except QuotaError as error:
                return HttpResponse(
                    error.message,
                    status=429,
                    content_type="text/plain",
                    headers={"Retry-After": str(error.retry_after_s)},
                )
            response = self._get_response(request)
            if response.status_code == 200:  # the form again; who is let in is sent on
                record_failed_login(request)
            return response
        return self._get_response(request)


class StoreFailureMiddleware:
    """Answers 503, with the time to come back, where a store does not answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer to a request whose view failed for its store; None for other failures."""
        is_of_sign_in = isinstance(error, RequestException) and request.path.startswith(
            "/accounts/"
        )
        if not isinstance(error, STORE_FAILURES) and not is_of_sign_in:
            return None
        logger.error("%s: what it needs does not answer: %s", request.path, error)
        headers = {"Retry-After": "5"}
        if request.path.startswith("/api/"):
            return JsonResponse(error_body("unavailable", UNAVAILABLE), status=503, headers=headers)
        return HttpResponse(UNAVAILABLE, status=503, content_type="text/plain", headers=headers)
