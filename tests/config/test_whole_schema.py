"""Every operation of the API does what the schema says, whoever asks and whatever is sent.

`AVIARY_SCHEMA_EXAMPLES` is how many examples each operation gets, here a few; `make soak-schema`
takes many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import Group, Permission, User
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounds
from hypothesis.stateful import run_state_machine_as_test
from rest_framework.test import APIClient
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config.api_tokens import make_api_token
from config.roles import ensure_roles
from tests.config.test_permission_matrix import ENDPOINTS, serves, url
from tests.factories.fleet import make_client, make_deployment, make_rollout
from tests.factories.registry import make_model

EXAMPLES = int(os.environ.get("AVIARY_SCHEMA_EXAMPLES", "3"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def kept_connections() -> Iterator[None]:
    """As in Django's own test client: a request must not close the test's transaction."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def callers(db: None, kept_connections: None) -> dict[str, dict[str, str]]:
    """The headers of a superuser, a viewer and a device, where there is something to ask about."""
    deployment = make_deployment()
    make_rollout(deployment=deployment)
    device = make_client()
    ensure_roles(groups=Group.objects, permissions=Permission.objects)
    viewer = User.objects.create_user("viewer")
    viewer.groups.add(Group.objects.get(name="viewer"))
    people = {"superuser": User.objects.create_superuser("root"), "viewer": viewer}
    found = {
        name: {"Authorization": f"Token {make_api_token(user=user, days=1, actor='t')[1]}"}
        for name, user in people.items()
    }
    return {**found, "device": {"Authorization": f"Bearer {device.token}"}}


def load(headers: dict[str, str]) -> Any:
    return schemathesis.openapi.from_wsgi("/api/schema/", WSGIHandler(), headers=headers)


@pytest.mark.parametrize("caller", ["superuser", "viewer", "device"])
def test_every_operation_keeps_to_the_schema(
    callers: dict[str, dict[str, str]], settings: Any, caller: str
) -> None:
    settings.AVIARY_QUOTAS = {**dict.fromkeys(settings.AVIARY_QUOTAS, 0), "login_audit": 1}
    schema = load(callers["superuser"])
    headers = callers[caller]
    failures: list[str] = []
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 100
    for operation in operations:
        try:
            # Who may do nothing is answered before much is looked at.
            few = max(1, EXAMPLES // 3)
            try_operation(operation, headers, EXAMPLES if caller == "superuser" else few)
        except Exception as error:  # noqa: BLE001  (each operation is told of, whatever broke)
            words = (
                str(error)
                if not isinstance(error, BaseExceptionGroup)
                else "\n".join(str(part) for part in error.exceptions)
            )
            failures.append(f"{operation.method.upper()} {operation.path}: {words[:900]}")
    assert not failures, f"{len(failures)} operations:\n\n" + "\n\n".join(failures)


@pytest.mark.parametrize("caller", ["superuser", "viewer"])
def test_calls_that_follow_one_another_keep_to_it_too(
    callers: dict[str, dict[str, str]], settings: Any, caller: str
) -> None:
    settings.AVIARY_QUOTAS = {**dict.fromkeys(settings.AVIARY_QUOTAS, 0), "login_audit": 1}
    headers = callers[caller]

    class Workflow(load(callers["superuser"]).as_state_machine()):  # type: ignore[misc]
        """What one call answers is used by the next, along the schema's own names."""

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": headers}

        def validate_response(self, response: Any, case: Any, **kwargs: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    run_state_machine_as_test(
        Workflow,
        settings=bounds(
            max_examples=EXAMPLES,
            stateful_step_count=6,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_parameter_that_does_not_exist_is_never_passed_over(api: APIClient) -> None:
    """A misspelt filter would answer with everything."""
    api.raise_request_exception = False
    paths = [path for path in ENDPOINTS if "GET" in serves(path)]
    codes = {path: api.get(f"{url(path)}?nosuch=1").status_code for path in paths}
    assert len(codes) > 40
    assert {path: code for path, code in codes.items() if code not in (400, 404)} == {}


@pytest.mark.parametrize("path", ["events/", "drift/"])
@pytest.mark.parametrize(
    ("time", "code"),
    [
        ("2026-01-01T00:00:00Z", 200), ("2026-01-01T00:00:00-23:59", 200),
        ("9999-12-31T23:59:59-12:00", 400), ("0001-01-01T00:00:00%2B12:00", 400), ("x", 400),
    ],
)  # fmt: skip
def test_a_time_far_out_is_compared_or_refused(
    api: APIClient, path: str, time: str, code: int
) -> None:
    assert api.get(f"/api/v1/{path}?since={time}").status_code == code


def test_a_policy_whose_parts_do_not_fit_is_refused_and_stays(api: APIClient) -> None:
    path = f"/api/v1/models/{make_model().slug}/drift-policy/"
    assert api.patch(path, {"critical_psi": 0.0}, format="json").status_code == 400
    assert api.patch(path, {"warning_psi": 0.3}, format="json").status_code == 400
    assert (api.get(path).json()["warning_psi"], api.get(path).json()["critical_psi"]) == (
        0.1,
        0.25,
    )
    fits = {"warning_psi": 0.3, "critical_psi": 0.4}
    assert api.patch(path, fits, format="json").status_code == 200


def try_operation(operation: Any, headers: dict[str, str], examples: int) -> None:
    @given(case=operation.as_strategy())
    @bounds(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, headers=headers)

    check()
