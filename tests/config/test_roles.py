"""The five roles: what each may do is what the table in the documents says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from config.roles import ROLES, SCOPE_WORDS, SCOPES, ensure_roles, missing_permissions, role_allows
from fleet.models import Device
from registry.models import AuditEvent
from tests.factories.fleet import make_deployment, make_device, make_release
from tests.factories.registry import make_model

pytestmark = pytest.mark.django_db
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "roles.md"


@pytest.fixture(autouse=True)
def roles(db: None) -> None:
    """A test that empties all tables may have been before this one."""
    ensure_roles(groups=Group.objects, permissions=Permission.objects)


def make_person(*roles: str, name: str = "", **fields: Any) -> User:
    user = User.objects.create_user(name or "-".join(roles) or "nobody", is_staff=True, **fields)
    user.groups.set(Group.objects.filter(name__in=roles))
    return user


def caller(*roles: str) -> APIClient:
    client = APIClient()
    client.force_authenticate(make_person(*roles, name="caller-" + "-".join(roles)))
    return client


def table() -> Iterator[tuple[str, str, set[str]]]:
    """Scope, words and roles of each line of the document's table."""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| `(\w+)`: (.+?) \|(.*)\|$", line):
            cells = [cell.strip() for cell in match[3].split("|")]
            yield (
                match[1],
                match[2],
                {role for role, cell in zip(ROLES, cells, strict=True) if cell},
            )


def test_the_document_says_what_the_code_does() -> None:
    assert [(scope, words) for scope, words, _ in table()] == list(SCOPE_WORDS.items())
    for scope, _, roles in table():
        assert roles == {role for role, scopes in ROLES.items() if scope in scopes}, scope
    for line in re.findall(r"\| `(\w+\.\w+)`", DOCUMENT.read_text(encoding="utf-8")):
        assert role_allows("admin", line), line
    assert missing_permissions() == set() and set(SCOPES) == set(SCOPE_WORDS)


def test_the_migration_has_made_the_groups_as_the_command_would() -> None:
    before = {
        group.name: set(group.permissions.values_list("pk", flat=True))
        for group in Group.objects.all()
    }
    assert set(before) == set(ROLES)
    call_command("make_roles", verbosity=0)
    assert not AuditEvent.objects.filter(action__startswith="group.").exists()
    publisher = Group.objects.get(name="publisher")
    publisher.permissions.add(Permission.objects.get(codename="approve_rollout"))
    call_command("make_roles", verbosity=0)
    assert set(publisher.permissions.values_list("pk", flat=True)) == before["publisher"]
    assert AuditEvent.objects.get(action="group.changed").details["before"]["permissions"]


#: An act, and the roles that may do it.
ACTS: dict[str, set[str]] = {
    "upload": {"publisher", "admin"},
    "approve": {"approver", "admin"},
    "roll out": {"operator", "admin"},
    "decommission": {"operator", "admin"},
    "move at once": {"admin"},
}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_does_its_acts_and_no_others(role: str) -> None:
    client = caller(role)
    deployment = make_deployment()
    version = make_release(deployment.model)
    device, _ = make_device()
    base = f"/api/v1/deployments/{deployment.pk}/"
    versions = f"/api/v1/models/{deployment.model.slug}/versions"
    answers = {
        "upload": client.post(
            "/api/v1/models/", {"slug": "new", "labels": ["a", "b"]}, format="json"
        ),
        "roll out": client.patch(base, {"stable_version": version.version}, format="json"),
        "move at once": client.patch(
            base,
            {"stable_version": version.version, "is_at_once": True, "reason": "urgent"},
            format="json",
        ),
        "approve": client.post(
            f"{versions}/{version.version}/transition/",
            {"to": "deprecated", "reason": "old"},
            format="json",
        ),
        "decommission": client.post(
            f"/api/v1/devices/{device.device_id}/decommission/", {"reason": "sold"}, format="json"
        ),
    }
    done = {act for act, answer in answers.items() if answer.status_code != 403}
    assert done == {act for act, roles in ACTS.items() if role in roles}
    assert all(answer.status_code in (200, 201, 403, 409) for answer in answers.values())
    assert client.get("/api/v1/audit/").status_code == 200
    device.refresh_from_db()
    is_gone = device.status == Device.Status.DECOMMISSIONED
    assert is_gone is (role in ACTS["decommission"])


def test_a_group_that_was_there_before_is_given_nothing() -> None:
    own = Group.objects.create(name="staff of ours")
    ensure_roles(groups=Group.objects, permissions=Permission.objects)
    assert not own.permissions.exists()


def test_nobody_gives_what_they_do_not_have(client: Client) -> None:
    make_model()
    boss = make_person("admin", name="boss")
    root = User.objects.create_superuser("root")
    eve = make_person("viewer", name="eve")
    schedule = Group.objects.create(name="schedulers")
    schedule.permissions.set(Permission.objects.filter(codename="add_periodictask"))
    client.force_login(boss)
    made = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "is_active": "on"}
    address = reverse("admin:auth_user_change", args=[eve.pk])
    fields = {**made, "username": "eve", "is_staff": "on", "is_superuser": "on"}
    beyond = Permission.objects.get(codename="add_periodictask")
    refused = client.post(address, {**fields, "groups": [schedule.pk]})
    assert refused.status_code == 200
    refused = client.post(address, {**fields, "user_permissions": [beyond.pk]})
    assert refused.status_code == 200
    publisher = Group.objects.get(name="publisher")
    assert client.post(address, {**fields, "groups": [publisher.pk]}).status_code == 302
    eve.refresh_from_db()
    assert not eve.is_superuser and list(eve.groups.all()) == [publisher]
    assert not eve.user_permissions.exists()
    for page in ("auth_user_change", "auth_user_password_change"):
        target = reverse(f"admin:{page}", args=[root.pk])
        fields = {"usable_password": "true", "password1": "x9-long-one", "password2": "x9-long-one"}
        assert client.post(target, {**made, **fields, "username": "root"}).status_code == 403
    target = reverse("admin:auth_group_change", args=[schedule.pk])
    assert client.post(target, {"name": "mine"}).status_code == 403
