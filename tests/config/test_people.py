"""Persons, their API tokens, and what either may do."""

from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
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
    page = root.post(ADD, {"user": ada.pk, "days": 3})
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
    refused = client.post(ADD, {"user": root.pk, "days": 1})
    assert "valid choice" in str(refused.context["errors"])
    assert client.post(ADD, {"user": staff.pk, "days": 1}).context["secret"]
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
