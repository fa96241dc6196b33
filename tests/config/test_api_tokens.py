"""API tokens: what a scope opens, what it never opens, and how a token ends."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from config.api_tokens import make_api_token
from config.models import EVERYTHING, ScopedUser, TokenGrant
from config.roles import ROLES, SCOPES, ensure_roles, role_allows, scope_allows
from registry.exceptions import InvalidFieldError
from registry.models import AuditEvent
from tests.config.test_permission_matrix import ENDPOINTS, needed, refused, serves

pytestmark = pytest.mark.django_db
MODELS = "/api/v1/models/"


def program(user: User, *scopes: str) -> tuple[APIClient, Any]:
    row, secret = make_api_token(user=user, days=1, actor="tester", scopes=scopes)
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Token {secret}")
    return client, row


def person(role: str) -> User:
    ensure_roles(groups=Group.objects, permissions=Permission.objects)
    user = User.objects.create_user(f"a {role}")
    user.groups.add(Group.objects.get(name=role))
    return user


@pytest.mark.parametrize("scope", SCOPES)
def test_a_superusers_token_does_what_its_scope_has_in_the_whole_api(scope: str) -> None:
    client, _ = program(User.objects.create_superuser("root"), scope)
    for path in ENDPOINTS:
        expected = {
            method
            for method in serves(path)
            if not all(scope_allows([scope], name) for name in needed(method, path))
        }
        assert refused(client, path) == expected, path


@pytest.mark.parametrize("role", ROLES)
def test_a_token_of_everything_does_what_its_user_may_do(role: str) -> None:
    client, _ = program(person(role), EVERYTHING)
    for path in ENDPOINTS:
        expected = {
            method
            for method in serves(path)
            if not all(role_allows(role, name) for name in needed(method, path))
        }
        assert refused(client, path) == expected, path


def test_a_scope_adds_nothing_to_what_the_user_may_do() -> None:
    user = person("viewer")
    client, _ = program(user, "read", "publish", "roll_out")
    body = {"slug": "new", "labels": ["a", "b"]}
    assert client.get(MODELS).status_code == 200
    assert client.post(MODELS, body, format="json").status_code == 403
    user.groups.clear()
    assert client.get(MODELS).status_code == 403


def test_a_token_opens_no_page_of_the_admin() -> None:
    client, _ = program(User.objects.create_superuser("root"), EVERYTHING)
    answer = client.get(reverse("admin:index"))
    assert answer.status_code == 302 and "/login/" in answer["Location"]
    user = ScopedUser.objects.get()
    user.token_scopes = (EVERYTHING,)
    assert not user.has_module_perms("registry") and user == User.objects.get()


def test_the_last_use_is_noted_once_a_minute() -> None:
    client, row = program(User.objects.create_superuser("root"), "read")
    grant = TokenGrant.objects.get(token=row)
    assert grant.last_used_at is None
    client.get(MODELS)
    grant.refresh_from_db()
    first = grant.last_used_at
    assert first is not None
    client.get(MODELS)
    grant.refresh_from_db()
    assert grant.last_used_at == first
    TokenGrant.objects.update(last_used_at=first - timedelta(minutes=2))
    client.get(MODELS)
    grant.refresh_from_db()
    assert grant.last_used_at is not None and grant.last_used_at >= first


def test_an_expired_token_and_one_without_scopes_open_nothing() -> None:
    root = User.objects.create_superuser("root")
    expired, row = program(root, "read")
    AuthToken.objects.filter(pk=row.pk).update(expiry=timezone.now() - timedelta(seconds=1))
    bare, row = program(root, "read")
    TokenGrant.objects.filter(token=row).delete()
    assert [client.get(MODELS).status_code for client in (expired, bare)] == [401, 401]


@pytest.mark.parametrize("secret", ["", "x", "\xff" * 64, "0" * 64, "A" * 64, "0" * 65, "ünï"])
def test_a_secret_that_is_none_is_refused_and_no_failure(secret: str) -> None:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Token {secret}")
    assert client.get(MODELS).status_code == 401


def test_the_secret_is_kept_nowhere() -> None:
    _, secret = make_api_token(user=User.objects.create_user("ada"), days=1, actor="ada")
    kept = str(list(AuthToken.objects.values())) + str(list(TokenGrant.objects.values()))
    assert secret not in kept + str(list(AuditEvent.objects.values()))


@pytest.mark.parametrize("scopes", [(), ("reed",), ("read", "")])
def test_a_scope_that_is_none_is_refused(scopes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidFieldError, match="scopes: expected one or more of read, publish"):
        make_api_token(user=User.objects.create_user("ada"), days=1, actor="ada", scopes=scopes)
    assert not AuthToken.objects.exists()


def test_the_command_takes_scopes() -> None:
    User.objects.create_superuser("ada")
    out = StringIO()
    call_command(
        "make_api_token", "ada", "--scopes", "read,ingest", "--name", "nightly", stdout=out
    )
    grant = TokenGrant.objects.get()
    assert (grant.scopes, grant.name) == (["ingest", "read"], "nightly")
    with pytest.raises(CommandError, match="found reed"):
        call_command("make_api_token", "ada", "--scopes", "reed")


def test_the_page_of_a_token_shows_what_it_may_do_and_revokes_it(client: Client) -> None:
    root = User.objects.create_superuser("root")
    api, row = program(root, "read", "ingest")
    api.get(MODELS)
    client.force_login(root)
    page = client.get(reverse("admin:knox_authtoken_change", args=[row.pk])).content.decode()
    assert "ingest, read" in page and "just now" in page and "Revoke" in page
    address = reverse("admin:knox_authtoken_revoke_one", args=[row.pk])
    assert client.get(address).status_code == 200 and api.get(MODELS).status_code == 200
    assert client.post(address).status_code == 302 and api.get(MODELS).status_code == 401
    assert AuditEvent.objects.filter(action="api_token.revoked", actor="root").exists()


def test_nobody_revokes_a_token_that_is_not_theirs(client: Client) -> None:
    api, row = program(User.objects.create_superuser("root"), "read")
    other = User.objects.create_user("other", is_staff=True)
    other.user_permissions.set(Permission.objects.filter(content_type__app_label="knox"))
    client.force_login(other)
    address = reverse("admin:knox_authtoken_revoke_one", args=[row.pk])
    assert client.post(address).status_code == 404 and api.get(MODELS).status_code == 200


def test_the_form_makes_a_token_with_the_scopes_that_were_ticked(client: Client) -> None:
    root = User.objects.create_superuser("root")
    client.force_login(root)
    address = reverse("admin:knox_authtoken_add")
    fields = {"user": root.pk, "days": 3, "name": "ci", "scopes": ["publish"]}
    assert client.post(address, fields).context["secret"]
    assert TokenGrant.objects.get().scopes == ["publish"]
    del fields["scopes"]
    assert client.post(address, fields).status_code == 200 and AuthToken.objects.count() == 1
