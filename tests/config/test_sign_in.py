"""Signing in: one door, a lock-out, a second factor, and what a page may load."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.contrib.auth.models import Group, Permission, User
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from config.roles import ensure_roles
from registry.models import AuditEvent

pytestmark = pytest.mark.django_db
PASSWORD = "a long and odd one 7"
LOGIN = "/accounts/login/"
ADMIN = "/admin/"


@pytest.fixture
def boss(db: None) -> User:
    ensure_roles(groups=Group.objects, permissions=Permission.objects)
    user = User.objects.create_user("boss", password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name="admin"))
    return user


def sign_in(client: Client, name: str = "boss", password: str = PASSWORD) -> Any:
    return client.post(LOGIN, {"login": name, "password": password})


def code_of(secret: str) -> str:
    counter = next(iter(yield_hotp_counters_from_time()))
    return format_hotp_value(hotp_value(secret, counter))


def set_up(client: Client) -> str:
    """The secret of an authenticator that was set up through the pages."""
    page = client.get(reverse("mfa_activate_totp"))
    if page.status_code == 302:
        client.post(page["Location"], {"password": PASSWORD})
        page = client.get(reverse("mfa_activate_totp"))
    secret = str(page.context["form"].secret)
    answer = client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)})
    assert answer.status_code == 302, answer.content.decode()
    return secret


def test_the_admins_own_door_leads_to_the_one_that_there_is(client: Client, boss: User) -> None:
    answer = client.get(ADMIN)
    assert answer["Location"].startswith("/admin/login/")
    assert client.get(answer["Location"])["Location"].startswith(LOGIN)
    posted = client.post("/admin/login/", {"username": "boss", "password": PASSWORD})
    assert posted["Location"].startswith(LOGIN) and "_auth_user_id" not in client.session
    assert sign_in(client)["Location"] == ADMIN and client.get(ADMIN).status_code == 200


@pytest.mark.parametrize(
    "path", ["signup/", "password/reset/", "password/set/", "email/", "3rdparty/", "social/signup/"]
)
def test_nobody_makes_an_account_or_a_password_by_themselves(client: Client, path: str) -> None:
    assert client.get(f"/accounts/{path}").status_code == 404
    assert client.post(f"/accounts/{path}", {"username": "eve"}).status_code == 404
    assert not User.objects.exists()


def test_a_name_is_locked_out_after_five_wrong_passwords(client: Client, boss: User) -> None:
    for _ in range(5):
        assert sign_in(client, password="wrong").status_code == 200
    assert sign_in(client).status_code != 302 and "_auth_user_id" not in client.session
    User.objects.create_superuser("other", password=PASSWORD)
    assert sign_in(Client(), "other").status_code == 302


def test_a_session_ends_when_the_setting_says(client: Client, boss: User, settings: Any) -> None:
    settings.SESSION_COOKIE_AGE = 3600
    sign_in(client)
    assert 0 < client.session.get_expiry_age() <= 3600
    assert int(client.cookies["sessionid"]["max-age"]) <= 3600


def test_who_needs_a_second_factor_gets_nowhere_without(
    client: Client, boss: User, settings: Any
) -> None:
    settings.AVIARY_MFA_ROLES = ["admin"]
    sign_in(client)
    assert client.get(ADMIN)["Location"] == reverse("mfa_activate_totp")
    answer = client.get("/api/v1/models/")
    assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
    set_up(client)
    assert client.get(ADMIN).status_code == 200
    assert client.get("/api/v1/models/").status_code == 200


@pytest.mark.parametrize(
    ("roles", "is_asked"),
    [([], False), (["operator"], False), (["admin", "operator"], True), (["everybody"], True)],
)
def test_the_setting_names_the_roles(
    client: Client, boss: User, settings: Any, roles: list[str], is_asked: bool
) -> None:
    settings.AVIARY_MFA_ROLES = roles
    client.force_login(boss)
    assert (client.get(ADMIN).status_code == 302) is is_asked


def test_a_superuser_counts_as_admin(client: Client, settings: Any) -> None:
    settings.AVIARY_MFA_ROLES = ["admin"]
    client.force_login(User.objects.create_superuser("root"))
    assert client.get(ADMIN).status_code == 302


def test_the_password_alone_opens_nothing_where_there_is_a_second_factor(
    client: Client, boss: User
) -> None:
    sign_in(client)
    secret = set_up(client)
    stranger = Client()
    assert sign_in(stranger)["Location"] == reverse("mfa_authenticate")
    assert stranger.get(ADMIN).status_code == 302
    assert stranger.get("/api/v1/models/").status_code == 401
    wrong = stranger.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert wrong.status_code == 200 and "_auth_user_id" not in stranger.session
    stored = Authenticator.objects.get(type="totp").data["secret"]
    assert secret not in str(list(Authenticator.objects.values())) and stored
    codes = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()
    answer = stranger.post(reverse("mfa_authenticate"), {"code": codes[0]})
    assert answer.status_code == 302 and stranger.get(ADMIN).status_code == 200
    again = Client()
    sign_in(again)
    assert again.post(reverse("mfa_authenticate"), {"code": codes[0]}).status_code == 200
    assert TOTP(Authenticator.objects.get(type="totp")).validate_code("x") is False


def test_somebody_who_lost_both_is_let_in_by_a_command(client: Client, boss: User) -> None:
    sign_in(client)
    set_up(client)
    call_command("reset_second_factor", "boss", verbosity=0)
    assert sign_in(Client())["Location"] == ADMIN
    assert AuditEvent.objects.filter(action="user.second_factor_reset").exists()
    with pytest.raises(CommandError, match="has no second factor"):
        call_command("reset_second_factor", "boss")


def test_a_setting_that_names_no_role_is_an_error(settings: Any) -> None:
    settings.AVIARY_MFA_ROLES = ["admins"]
    settings.AVIARY_OIDC_ROLES = {"ops": "root"}
    found = [check.msg for check in run_checks() if check.id == "aviary.E008"]
    assert found == [
        "AVIARY_OIDC_ROLES names no role: root", "AVIARY_MFA_ROLES names no role: admins",
    ]  # fmt: skip


def test_the_schema_and_its_page_are_for_those_who_are_signed_in(
    client: Client, boss: User, settings: Any
) -> None:
    assert client.get("/api/schema/").status_code == 401
    assert client.get("/api/docs/")["Location"] == f"{LOGIN}?next=/api/docs/"
    settings.AVIARY_PUBLIC_API_DOCS = True
    assert client.get("/api/docs/").status_code == 200
    client.force_login(boss)
    settings.AVIARY_PUBLIC_API_DOCS = False
    assert client.get("/api/docs/").status_code == client.get("/api/schema/").status_code == 200


@pytest.mark.parametrize("path", [LOGIN, "/healthz", "/api/v1/models/"])
def test_every_answer_says_what_a_page_may_load(client: Client, path: str) -> None:
    policy = client.get(path)["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";") if part.strip())
    assert directives["script-src"].startswith("'self' 'unsafe-eval' 'sha256-")
    assert "unsafe-inline" not in directives["script-src"]
    assert directives["object-src"] == directives["frame-ancestors"] == "'none'"
    assert directives["form-action"] == directives["base-uri"] == "'self'"
