"""Moving a version from the admin: what is asked first, and what is refused."""

from typing import Any

import pytest
from django.test import Client

from registry.models import AuditEvent, Version
from tests.factories.fleet import make_client, make_deployment
from tests.factories.registry import make_version
from tests.registry.admin_pages import transition_url

pytestmark = pytest.mark.django_db


def test_the_confirmation_says_what_it_touches_and_changes_nothing(
    admin_client: Client, filled: Version
) -> None:
    response = admin_client.get(transition_url(filled, "yanked"))
    assert "is never offered again" in response.text
    assert "In use by: 1 alias" in response.text
    filled.refresh_from_db()
    assert filled.state == "approved"


def test_the_confirmation_counts_deployments_and_devices(admin_client: Client) -> None:
    version = make_version()
    make_deployment(stable_version=version)
    client = make_client()
    client.install(version.model.slug)
    text = admin_client.get(transition_url(version, "yanked")).text
    assert "In use by: " in text
    assert "1 deployment as stable version" in text
    assert "1 device in installations" in text


def test_a_transition_moves_the_version_and_keeps_actor_and_reason(admin_client: Client) -> None:
    version = make_version(state="ready")
    response = admin_client.post(transition_url(version, "approved"), {"reason": "Measured well"})
    assert response.status_code == 302
    version.refresh_from_db()
    assert version.state == "approved"
    event = AuditEvent.objects.get(action="version.approved")
    assert (event.actor, event.details["reason"]) == ("admin", "Measured well")
    assert "Measured well" in admin_client.get(version.get_absolute_url()).text


def test_a_transition_without_a_reason_is_refused(admin_client: Client) -> None:
    version = make_version(state="ready")
    assert admin_client.post(transition_url(version, "approved"), {"reason": ""}).status_code == 200
    version.refresh_from_db()
    assert version.state == "ready"


def test_a_transition_from_the_wrong_state_shows_the_error(admin_client: Client) -> None:
    version = make_version(state="ready")
    response = admin_client.post(transition_url(version, "deprecated"), {"reason": "old"})
    assert response.status_code == 200
    assert "cannot go from ready to deprecated" in response.text
    version.refresh_from_db()
    assert version.state == "ready"


def test_an_unknown_target_state_is_not_found(admin_client: Client) -> None:
    version = make_version(state="ready")
    assert admin_client.post(transition_url(version, "draft"), {"reason": "x"}).status_code == 404


def test_a_transition_needs_the_csrf_token(django_user_model: Any) -> None:
    user = django_user_model.objects.create_superuser("root")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    version = make_version(state="ready")
    response = client.post(transition_url(version, "approved"), {"reason": "x"})
    assert response.status_code == 403
    version.refresh_from_db()
    assert version.state == "ready"
