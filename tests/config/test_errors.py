"""Every error of every API has one shape: `{"code", "message", "details"}`."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404
from django.test import Client, RequestFactory
from rest_framework import exceptions
from rest_framework.test import APIClient

from config import api
from fleet.exceptions import NotAuthenticatedError
from registry.exceptions import AviaryError, ConflictError, NotFoundError
from tests.factories.registry import make_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(User.objects.create_superuser("ada"))
    return client


@pytest.fixture
def stranger() -> APIClient:
    """Somebody known who may do nothing."""
    client = APIClient()
    client.force_authenticate(User.objects.create_user("bob"))
    return client


def check_shape(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"].startswith("application/json")
    body: dict[str, Any] = json.loads(response.content)
    assert set(body) == {"code", "message", "details"}
    assert isinstance(body["code"], str) and body["code"]
    assert isinstance(body["message"], str) and body["message"]
    assert isinstance(body["details"], dict)
    if code is not None:
        assert body["code"] == code
    return body


PERSON_ADDRESSES = (
    "/api/v1/models/",
    "/api/v1/models/none/versions/",
    "/api/v1/audit/",
    "/api/v1/devices/",
    "/api/v1/rollouts/",
    "/api/v1/incidents/",
    "/api/v1/compression/jobs/",
)


@pytest.mark.parametrize("address", PERSON_ADDRESSES)
def test_nobody_gets_401(address: str) -> None:
    response = APIClient().get(address)
    check_shape(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"]


def test_a_wrong_token_gets_401() -> None:
    response = APIClient().get("/api/v1/models/", headers={"Authorization": "Token 0123456789"})
    body = check_shape(response, 401)
    assert "0123456789" not in json.dumps(body)


@pytest.mark.parametrize("token", ["", "Bearer wrong"])
def test_an_unknown_device_gets_401(token: str) -> None:
    headers = {"Authorization": token} if token else {}
    response = APIClient().get("/api/models/latest?device_id=a&model=b", headers=headers)
    check_shape(response, 401)
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_who_may_not_gets_403(stranger: APIClient) -> None:
    response = stranger.post("/api/v1/models/", {"slug": "gauges"}, format="json")
    check_shape(response, 403, "permission_denied")


def test_an_unknown_object_gets_404(person: APIClient) -> None:
    body = check_shape(person.get("/api/v1/models/none/versions/"), 404, "not_found")
    assert "none" in body["message"]


@pytest.mark.parametrize("address", ["/api/nothing", "/api/v1/nothing/", "/api/v2/models/"])
def test_an_unknown_address_gets_404(address: str) -> None:
    check_shape(Client().get(address), 404, "not_found")


def test_a_method_that_is_not_there_gets_405(person: APIClient) -> None:
    check_shape(person.delete("/api/v1/models/"), 405, "method_not_allowed")


def test_json_that_does_not_parse_gets_400(person: APIClient) -> None:
    response = person.post("/api/v1/models/", "{broken", content_type="application/json")
    check_shape(response, 400, "parse_error")


@pytest.mark.parametrize("body", ["[]", "3", '"text"', "null"])
def test_json_that_is_no_object_gets_400(person: APIClient, body: str) -> None:
    check_shape(person.post("/api/v1/models/", body, content_type="application/json"), 400)


def test_a_body_of_an_unknown_type_gets_415(person: APIClient) -> None:
    response = person.post("/api/v1/models/", "a,b", content_type="text/csv")
    check_shape(response, 415, "unsupported_media_type")


def test_a_field_that_is_wrong_is_named(person: APIClient) -> None:
    response = person.post("/api/v1/models/", {"slug": "No Spaces"}, format="json")
    body = check_shape(response, 400, "invalid")
    assert "slug" in body["details"]


def test_a_name_that_is_taken_gets_409(person: APIClient) -> None:
    model = make_model()
    response = person.post("/api/v1/models/", {"slug": model.slug}, format="json")
    check_shape(response, 409, "conflict")


def handle(error: Exception) -> tuple[int, dict[str, Any]]:
    response = api.exception_handler(error, {})
    assert response is not None
    assert set(response.data) == {"code", "message", "details"}
    return response.status_code, response.data


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (AviaryError("Something", {"a": 1}), 400, "error"),
        (NotFoundError(), 404, "not_found"),
        (ConflictError(), 409, "conflict"),
        (NotAuthenticatedError(), NotAuthenticatedError.http_status, NotAuthenticatedError.code),
        (Http404("No such thing"), 404, "not_found"),
        (PermissionDenied(), 403, "permission_denied"),
        (DjangoValidationError({"name": ["is too long"]}), 400, "invalid"),
        (exceptions.ValidationError({"name": ["is too long"]}), 400, "invalid"),
        (exceptions.ParseError(), 400, "parse_error"),
        (exceptions.NotAcceptable(), 406, "not_acceptable"),
        (exceptions.Throttled(wait=3), 429, "throttled"),
    ],
)
def test_every_kind_of_error_is_mapped(error: Exception, status: int, code: str) -> None:
    got, body = handle(error)
    assert (got, body["code"]) == (status, code)


def test_an_errors_own_message_and_details_are_kept() -> None:
    _, body = handle(ConflictError("The name is taken", {"name": "a"}))
    assert (body["message"], body["details"]) == ("The name is taken", {"name": "a"})


def test_a_throttled_client_is_told_when_to_come_back() -> None:
    response = api.exception_handler(exceptions.Throttled(wait=3), {})
    assert response is not None and int(response["Retry-After"]) >= 3


def test_an_error_nobody_foresaw_is_left_to_the_server() -> None:
    assert api.exception_handler(RuntimeError("a secret"), {}) is None


def test_a_failure_says_nothing_of_itself() -> None:
    body = check_shape(api.server_error(RequestFactory().get("/")), 500, "internal_error")
    assert body["details"] == {}
    bad = api.bad_request(RequestFactory().get("/"), ValueError("a secret"))
    assert "secret" not in json.dumps(check_shape(bad, 400, "bad_request"))


def test_an_unforeseen_failure_of_a_view_gets_500(
    person: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("registry.selectors.get_model", fail)
    body = check_shape(person.get("/api/v1/models/any/versions/"), 500, "internal_error")
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_an_address_that_is_none_is_a_404_for_programs_too(method: str) -> None:
    response = getattr(Client(enforce_csrf_checks=True), method)("/api/v1/nothing/here/")
    check_shape(response, 404, "not_found")
