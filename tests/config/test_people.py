"""Persons, their API tokens, and what either may do."""

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken
from rest_framework.test import APIClient

from config.api_tokens import make_api_token
from registry.exceptions import InvalidFieldError
from registry.models import AuditEvent

pytestmark = pytest.mark.django_db

ADD = reverse("admin:knox_authtoken_add")
LIST = reverse("admin:knox_authtoken_changelist")


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def make_staff(name: str, *permissions: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def answer_to(secret: str) -> int:
    status: int = (
        APIClient()
        .get("/api/v1/compression/jobs/", headers={"Authorization": f"Token {secret}"})
        .status_code
    )
    return status


def test_a_token_does_what_its_user_may_do_and_no_more() -> None:
    reader, stranger = make_staff("reader", "view_job"), make_staff("stranger")
    _, secret = make_api_token(user=reader, days=1, actor="root")
    _, useless = make_api_token(user=stranger, days=1, actor="root")
    assert (answer_to(secret), answer_to(useless)) == (200, 403)


def test_the_command_prints_a_token_that_opens_the_api() -> None:
    User.objects.create_superuser("ada")
    out = StringIO()
    call_command("make_api_token", "ada", stdout=out)
    assert answer_to(out.getvalue().strip()) == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nobody"], "no user 'nobody'"), (["ada", "--days", "0"], "expected 1 to 3650, found 0")],
)
def test_the_command_says_what_is_wrong(arguments: list[str], message: str) -> None:
    User.objects.create_superuser("ada")
    with pytest.raises(CommandError, match=message):
        call_command("make_api_token", *arguments)
    assert not AuthToken.objects.exists()


def test_an_inactive_user_gets_no_token() -> None:
    user = User.objects.create_user("gone", is_active=False)
    with pytest.raises(InvalidFieldError, match="gone is not active"):
        make_api_token(user=user, days=1, actor="root")


def test_the_page_shows_the_secret_once_and_the_audit_log_never_does(root: Client) -> None:
    ada = User.objects.create_superuser("ada")
    page = root.post(ADD, {"user": ada.pk, "days": 3, "scopes": ["read"]})
    secret = page.context["secret"]
    assert secret in page.content.decode() and answer_to(secret) == 200
    assert "no-store" in page["Cache-Control"]
    assert secret not in root.get(LIST).content.decode()
    event = AuditEvent.objects.get(action="api_token.made")
    assert secret not in str(event.details) and event.actor == "root"


def test_a_revoked_token_opens_nothing(root: Client) -> None:
    row, secret = make_api_token(user=User.objects.get(), days=1, actor="root")
    root.post(LIST, {"action": "revoke_selected", "_selected_action": [row.pk]})
    assert answer_to(secret) == 401
    assert AuditEvent.objects.filter(action="api_token.revoked").count() == 1


def test_only_a_superuser_makes_or_sees_other_peoples_tokens(client: Client) -> None:
    root = User.objects.create_superuser("root")
    make_api_token(user=root, days=1, actor="root")
    staff = make_staff("staff", "add_authtoken", "view_authtoken")
    client.force_login(staff)
    assert client.get(LIST).context["cl"].result_count == 0
    refused = client.post(ADD, {"user": root.pk, "days": 1, "scopes": ["read"]})
    assert "valid choice" in str(refused.context["errors"])
    assert client.post(ADD, {"user": staff.pk, "days": 1, "scopes": ["everything"]}).context[
        "secret"
    ]
    assert AuthToken.objects.filter(user=root).count() == 1


def test_a_person_is_made_with_a_password(root: Client) -> None:
    password = "a long and odd one 7"
    root.post(
        reverse("admin:auth_user_add"),
        {
            "username": "eve",
            "usable_password": "true",
            "password1": password,
            "password2": password,
        },
    )
    assert User.objects.get(username="eve").check_password(password)


def test_the_sidebar_offers_what_a_person_may_view(client: Client) -> None:
    client.force_login(make_staff("reader", "view_job"))
    page = client.get(reverse("admin:index")).content.decode()
    assert reverse("admin:compression_job_changelist") in page
    assert reverse("admin:auth_user_changelist") not in page


def test_the_apis_page_brings_its_own_scripts(root: Client) -> None:
    page = root.get(reverse("docs")).content.decode()
    assert "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js" in page
    assert "https://" not in page


PASSWORD = "a long and odd one 7"
NEW = "another and odder one 8"


def actions() -> list[tuple[str, str]]:
    return list(AuditEvent.objects.order_by("pk").values_list("action", "actor"))


def change_as_the_person(user: User) -> None:
    client = Client()
    client.force_login(user)
    fields = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    assert client.post(reverse("admin:password_change"), fields).status_code == 302


def change_as_root(user: User) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    fields = {"usable_password": "true", "password1": NEW, "password2": NEW}
    address = reverse("admin:auth_user_password_change", args=[user.pk])
    assert client.post(address, fields).status_code == 302


def take_away_as_root(user: User) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    fields = {"usable_password": "false", "unset-password": "1"}
    address = reverse("admin:auth_user_password_change", args=[user.pk])
    assert client.post(address, fields).status_code == 302


def change_in_a_shell(user: User) -> None:
    user.set_password(NEW)
    user.save()


@pytest.mark.parametrize(
    "change", [change_as_the_person, change_as_root, take_away_as_root, change_in_a_shell]
)
def test_a_changed_password_ends_the_tokens_and_is_audited(change: Any) -> None:
    ada = User.objects.create_superuser("ada", password=PASSWORD)
    _, secret = make_api_token(user=ada, days=1, actor="root")
    assert answer_to(secret) == 200
    change(ada)
    ada.refresh_from_db()
    assert not ada.check_password(PASSWORD) and answer_to(secret) == 401
    found = {action for action, _ in actions()}
    assert found & {"user.password_changed", "user.changed"} and "api_token.revoked" in found
    everything = str(list(AuditEvent.objects.values()))
    assert PASSWORD not in everything and NEW not in everything


def user_fields(user: User, **over: Any) -> dict[str, Any]:
    made = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    return {"username": user.username, "is_active": "on", "is_staff": "on", **made, **over}


def test_who_becomes_a_superuser_and_by_whom_is_audited(root: Client) -> None:
    eve = make_staff("eve")
    group = Group.objects.create(name="publishers")
    permission = Permission.objects.get(codename="view_job")
    given = {"is_superuser": "on", "groups": [group.pk], "user_permissions": [permission.pk]}
    address = reverse("admin:auth_user_change", args=[eve.pk])
    assert root.post(address, user_fields(eve, **given)).status_code == 302
    event = AuditEvent.objects.get(action="user.changed")
    assert event.actor == "root" and event.details == {
        "before": {"groups": [], "is_superuser": False, "permissions": []},
        "after": {
            "groups": ["publishers"],
            "is_superuser": True,
            "permissions": ["compression.view_job"],
        },
    }


def test_a_group_and_its_end_are_audited(root: Client) -> None:
    permission = Permission.objects.get(codename="view_job")
    fields = {"name": "publishers", "permissions": [permission.pk]}
    root.post(reverse("admin:auth_group_add"), fields)
    group = Group.objects.get(name="publishers")
    address = reverse("admin:auth_group_change", args=[group.pk])
    root.post(address, {"name": "publishers", "permissions": []})
    root.post(reverse("admin:auth_group_delete", args=[group.pk]), {"post": "yes"})
    assert actions() == [(f"group.{verb}", "root") for verb in ("made", "changed", "deleted")]
    assert AuditEvent.objects.get(action="group.changed").details == {
        "before": {"permissions": ["compression.view_job"]},
        "after": {"permissions": []},
    }


def test_a_user_made_inactive_gets_no_token_back_with_the_activity(root: Client) -> None:
    eve = make_staff("eve", "view_job")
    _, secret = make_api_token(user=eve, days=1, actor="root")
    address = reverse("admin:auth_user_change", args=[eve.pk])
    fields = user_fields(eve)
    del fields["is_active"]
    assert root.post(address, fields).status_code == 302
    User.objects.filter(pk=eve.pk).update(is_active=True)
    assert answer_to(secret) == 401


def test_refused_logins_are_audited_without_what_was_typed(client: Client, settings: Any) -> None:
    settings.AVIARY_QUOTAS = {**settings.AVIARY_QUOTAS, "login": 0, "login_audit": 3}
    User.objects.create_superuser("ada", password=PASSWORD)
    login = reverse("account_login")
    client.post(login, {"login": "ada", "password": "secret guess"})
    client.post(login, {"login": PASSWORD, "password": ""})
    assert client.post(login, {"login": "ada", "password": PASSWORD}).status_code == 302
    for name in ("\0", "x" * 9999, "ada", "ada"):
        Client().post(login, {"login": name, "password": "secret guess"})
    events = list(AuditEvent.objects.order_by("pk"))
    assert [event.action for event in events] == ["user.login_failed"] * 3
    assert "as ada" in events[0].summary and events[0].details == {"address": "127.0.0.1"}
    everything = str([(event.summary, event.details, event.actor) for event in events])
    assert "secret guess" not in everything and PASSWORD not in everything
