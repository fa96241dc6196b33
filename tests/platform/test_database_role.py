"""The server's own database role does the server's work and cannot touch the audit log's past."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from servers.kept import run
from tests.databases import ROOT, make_database

ROLE, PASSWORD = "aviary_app_of_tests", "p/a:s@s w'ord"
QUOTED = "p%2Fa%3As%40s%20w%27ord"


def as_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))


def manage(url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": url, **variables}
    return run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def owner() -> Iterator[str]:
    """The address of a migrated database for its owner, with the role made."""
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        pytest.skip("there is no PostgreSQL")
    address = make_database(url, "aviary_role_test")
    done = manage(address, "make_database_roles",
                  AVIARY_APP_DATABASE_URL=as_user(address, ROLE, QUOTED))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{ROLE} may use" in done.stdout
    yield address
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {ROLE}")
        connection.execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def app(owner: str) -> Iterator[Any]:
    address = as_user(owner, ROLE, QUOTED)
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection


REFUSED = {
    "change an event": "UPDATE registry_auditevent SET actor = 'eve'",
    "remove an event": "DELETE FROM registry_auditevent",
    "empty the log": "TRUNCATE registry_auditevent",
    "take the trigger away": "DROP TRIGGER registry_auditevent_no_change ON registry_auditevent",
    "switch the trigger off": "ALTER TABLE registry_auditevent DISABLE TRIGGER ALL",
    "switch all triggers off": "SET session_replication_role = replica",
    "change what the trigger does": "CREATE OR REPLACE FUNCTION registry_refuse_audit_change() "
    "RETURNS trigger AS $$ BEGIN RETURN NEW; END $$ LANGUAGE plpgsql",
    "drop the log": "DROP TABLE registry_auditevent",
    "remove the head": "DELETE FROM registry_audithead",
    "make a table": "CREATE TABLE mine (id int)",
    "forget a migration": "DELETE FROM django_migrations",
    "become the owner": "SET ROLE postgres",
    "give itself more": f"GRANT UPDATE ON registry_auditevent TO {ROLE}",
    "make a role": "CREATE ROLE another SUPERUSER",
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_role_cannot(app: Any, case: str) -> None:
    app.execute("INSERT INTO registry_audithead (id, digest, count) VALUES (1, repeat('0', 64), 0) "
                "ON CONFLICT DO NOTHING")  # fmt: skip
    try:
        app.execute(REFUSED[case])
    except psycopg.errors.InsufficientPrivilege:
        return
    # A GRANT without the right to give is a warning and changes nothing.
    row = app.execute("SELECT has_table_privilege('registry_auditevent', 'UPDATE')").fetchone()
    assert case == "give itself more" and row == (False,)


def test_the_server_works_as_this_role_and_its_chain_is_whole(owner: str) -> None:
    address = as_user(owner, ROLE, QUOTED)
    code = (
        "from django.contrib.auth.models import User\n"
        "from config.api_tokens import make_api_token\n"
        "from registry.services.models import create_model\n"
        "ada = User.objects.create_superuser('ada')\n"
        "make_api_token(user=ada, days=1, actor='ada')\n"
        "create_model(slug='shapes', labels=['a', 'b'], actor='ada')\n"
        "ada.delete()\n"
    )
    done = manage(address, "shell", "-c", code)
    assert done.returncode == 0, done.stderr[-2000:]
    checked = manage(
        address,
        "shell",
        "-c",
        "from registry.services.audit import verify_chain\nprint(verify_chain())",
    )
    assert checked.stdout.split()[-1] == "2", checked.stderr
    migrated = manage(address, "migrate", "--check")
    assert migrated.returncode == 0, migrated.stderr


def test_the_command_may_be_run_again_and_says_what_is_wrong(owner: str) -> None:
    again = manage(owner, "make_database_roles",
                   AVIARY_APP_DATABASE_URL=as_user(owner, ROLE, QUOTED))  # fmt: skip
    assert again.returncode == 0, again.stderr
    for url in ("", "postgres://host/db", f"postgres://{ROLE}@host/db"):
        done = manage(owner, "make_database_roles", AVIARY_APP_DATABASE_URL=url)
        assert done.returncode != 0 and "names no user with a password" in done.stderr
