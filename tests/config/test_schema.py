"""The management API is what its schema says, whatever it is sent; nothing makes it fail."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, given, settings
from rest_framework.test import APIClient
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config.api_tokens import make_api_token
from tests.factories.registry import make_dataset, make_model

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def kept_connections() -> Iterator[None]:
    """As in Django's own test client: a request must not close the test's transaction."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def api_schema(db: Any, kept_connections: None) -> Any:
    """As a superuser sees it, with a model and a data set to ask about."""
    make_dataset(make_model(slug="shapes"))
    user = User.objects.create_superuser("ada")
    _, secret = make_api_token(user=user, days=1, actor="ada")
    headers = {"Authorization": f"Token {secret}"}
    schema = schemathesis.openapi.from_wsgi("/api/schema/", WSGIHandler(), headers=headers)
    return schema, headers


def test_compression_and_data_sets_keep_to_the_schema(api_schema: Any) -> None:
    schema, headers = api_schema
    chosen = schema.include(path_regex="compression|datasets")
    operations = [result.ok() for result in chosen.get_all_operations()]
    assert len(operations) > 8
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=10,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Any) -> None:
            case.call_and_validate(checks=CHECKS, headers=headers)

        check()


def test_every_operation_tells_its_errors(db: Any) -> None:
    client = APIClient()
    client.force_authenticate(User.objects.create_superuser("ada"))
    document = client.get("/api/schema/?format=json").json()
    operations = [
        operation
        for path in document["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict) and "responses" in operation
    ]
    assert len(operations) > 50
    assert all("default" in operation["responses"] for operation in operations)
