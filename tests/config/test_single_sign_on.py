"""OpenID Connect against a provider that runs beside the tests: accounts and roles come from it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from config.roles import ensure_roles
from config.sign_in.external_roles import roles_of
from registry.models import AuditEvent
from servers.kept import Kept
from servers.patience import wait_for
from servers.processes import free_port

pytestmark = pytest.mark.django_db
SIGN_IN = "/accounts/oidc/sso/login/"
ROLE_MAP = {"fleet-ops": "operator", "ml": "publisher", "leads": "admin"}


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The address of an OpenID provider that takes any client and any person."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    process = Kept(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: is_up(address), "the OpenID provider")
        yield address
    finally:
        process.end()


def is_up(address: str) -> bool:
    try:
        found = requests.get(f"{address}/.well-known/openid-configuration", timeout=5)
    except requests.ConnectionError:
        return False
    return found.ok


@pytest.fixture
def sso(provider: str, settings: Any) -> str:
    app = {
        "provider_id": "sso", "name": "Acme", "client_id": "aviary", "secret": "s",
        "settings": {"server_url": provider},
    }  # fmt: skip
    settings.AVIARY_OIDC_URL = provider
    settings.AVIARY_OIDC_ROLES = ROLE_MAP
    settings.SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}
    }
    ensure_roles(groups=Group.objects, permissions=Permission.objects)
    return provider


def give(provider: str, sub: str, **claims: Any) -> None:
    """What the provider says of a person from now on."""
    answer = requests.put(f"{provider}/users/{sub}", json=claims, timeout=30)
    assert answer.ok, answer.text


def come(client: Client, sub: str) -> Any:
    """The last answer of a whole sign-in, as a browser does it."""
    start = client.post(SIGN_IN)
    assert start.status_code == 302, start.content.decode()
    sent = parse_qs(urlsplit(start["Location"]).query)
    assert sent["code_challenge_method"] == ["S256"] and sent["state"]
    allowed = requests.post(start["Location"], data={"sub": sub}, allow_redirects=False, timeout=30)
    back = urlsplit(allowed.headers["Location"])
    assert back.path == f"{SIGN_IN}callback/"
    return client.get(f"{back.path}?{back.query}")


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_a_first_sign_in_makes_an_account_with_the_roles_of_the_groups(
    client: Client, sso: str
) -> None:
    give(sso, "1", preferred_username="ada", groups=["fleet-ops", "ml", "unknown"])
    assert come(client, "1").status_code == 302 and is_in(client)
    ada = User.objects.get()
    assert ada.username == "ada" and not ada.has_usable_password()
    assert set(ada.groups.values_list("name", flat=True)) == {"operator", "publisher"}
    assert ada.is_staff and not ada.is_superuser
    event = AuditEvent.objects.get(action="user.changed")
    assert event.actor == "single sign-on" and event.details["after"]["is_staff"] is True


def test_roles_follow_the_groups_at_each_sign_in(client: Client, sso: str) -> None:
    give(sso, "2", preferred_username="bo", groups=["leads"])
    come(client, "2")
    user = User.objects.get()
    user.groups.add(Group.objects.create(name="of our own"))
    give(sso, "2", preferred_username="bo", groups=["ml"])
    come(Client(), "2")
    assert set(user.groups.values_list("name", flat=True)) == {"publisher", "of our own"}


def test_who_has_no_group_any_more_is_let_in_no_more(client: Client, sso: str) -> None:
    give(sso, "3", preferred_username="cy", groups=["leads"])
    come(client, "3")
    give(sso, "3", preferred_username="cy", groups=[])
    again = Client()
    answer = come(again, "3")
    assert answer.status_code == 403 and "no role here" in answer.content.decode()
    user = User.objects.get()
    assert not user.groups.exists() and not user.is_staff
    assert not is_in(again) and not is_in(client)


@pytest.mark.parametrize("groups", [None, [], ["other"], "leads-of-something", {"a": 1}, [["ml"]]])
def test_a_stranger_without_a_role_gets_no_account(client: Client, sso: str, groups: Any) -> None:
    give(sso, "4", preferred_username="eve", groups=groups)
    assert come(client, "4").status_code == 403
    assert not User.objects.exists() and not is_in(client)
    assert AuditEvent.objects.filter(action="user.login_failed").count() == 1


def test_a_name_and_an_address_that_are_here_already_are_not_taken_over(
    client: Client, sso: str
) -> None:
    root = User.objects.create_superuser("root", "root@example.org", "a long and odd one 7")
    give(sso, "5", preferred_username="root", email="root@example.org", email_verified=True,
         groups=["ml"])  # fmt: skip
    come(client, "5")
    other = User.objects.exclude(pk=root.pk).get()
    assert other.username != "root" and not other.is_superuser
    assert client.session.get("_auth_user_id") == str(other.pk)


@pytest.mark.parametrize("change", ["state", "code", "error"])
def test_an_answer_that_was_tampered_with_opens_nothing(
    client: Client, sso: str, change: str
) -> None:
    give(sso, "6", preferred_username="ada", groups=["leads"])
    start = client.post(SIGN_IN)
    allowed = requests.post(start["Location"], data={"sub": "6"}, allow_redirects=False, timeout=30)
    back = urlsplit(allowed.headers["Location"])
    query = re.sub(f"{change}=[^&]*", f"{change}=x", back.query)
    query = "error=access_denied" if change == "error" else query
    assert query != back.query
    client.get(f"{back.path}?{query}")
    assert not User.objects.exists() and not is_in(client)


def test_somebody_elses_answer_opens_nothing(client: Client, sso: str) -> None:
    give(sso, "7", preferred_username="ada", groups=["leads"])
    start = client.post(SIGN_IN)
    allowed = requests.post(start["Location"], data={"sub": "7"}, allow_redirects=False, timeout=30)
    back = urlsplit(allowed.headers["Location"])
    stranger = Client()
    stranger.get(f"{back.path}?{back.query}")
    assert not is_in(stranger) and not User.objects.exists()


def test_a_provider_that_is_away_is_no_failure_of_ours(
    client: Client, sso: str, settings: Any
) -> None:
    apps = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]
    apps[0]["settings"]["server_url"] = f"http://127.0.0.1:{free_port()}"
    assert client.post(SIGN_IN).status_code == 503


def test_without_the_setting_there_is_no_such_way_in(client: Client) -> None:
    assert client.post(SIGN_IN).status_code == 404
    assert "sso-form" not in client.get("/accounts/login/").content.decode()


def test_the_page_offers_it_and_a_second_factor_is_not_asked_for_twice(
    client: Client, sso: str, settings: Any
) -> None:
    settings.AVIARY_MFA_ROLES = ["everybody"]
    assert "sso-form" in client.get("/accounts/login/").content.decode()
    give(sso, "8", preferred_username="ada", groups=["ml"])
    come(client, "8")
    assert is_in(client)


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        (["ml"], {"publisher"}), ("ml", {"publisher"}), (["ML", " ml"], set()), (7, set()),
        ([1, None, "leads"], {"admin"}), ([*map(str, range(1000)), "ml"], set()),
    ],
)  # fmt: skip
def test_groups_are_matched_letter_by_letter(groups: Any, roles: set[str]) -> None:
    assert roles_of({"groups": groups}, claim="groups", role_map=ROLE_MAP) == roles
