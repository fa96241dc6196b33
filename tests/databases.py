"""Databases for tests: copies of one that was migrated once.

Migrating an empty database takes many seconds, copying one a fraction of a second.
"""

import hashlib
import os
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from servers.kept import run

ROOT = Path(__file__).resolve().parents[1]
_PREFIX = "aviary_template_"
#: Any number, as long as everybody who makes a template takes the same.
_LOCK = 20_260_131


def make_database(url: str, name: str) -> str:
    """A migrated database beside the one of `url`, in place of any of that name; its address."""
    template = template_of(url)
    with psycopg.connect(url, autocommit=True) as connection:
        _execute(connection, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        _execute(connection, "CREATE DATABASE {} TEMPLATE {}", name, template)
    return address_of(url, name)


def make_empty_database(url: str, name: str) -> str:
    """The same without a single table."""
    with psycopg.connect(url, autocommit=True) as connection:
        _create_empty(connection, name)
    return address_of(url, name)


@cache
def template_of(url: str) -> str:
    """The name of a migrated database to copy; made by whoever asks first.

    Its name has the digest of all migrations, so that one of an earlier state of the code on a
    server that is kept is not taken for this one's.
    """
    name = _PREFIX + _digest_migrations()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [_PREFIX]
        ).fetchall()
        if (name,) not in rows:
            for (old,) in rows:
                _execute(connection, "DROP DATABASE IF EXISTS {} WITH (FORCE)", old)
            _migrate(connection, url, name)
    return name


def _migrate(connection: "psycopg.Connection[tuple[str]]", url: str, name: str) -> None:
    unfinished = f"unfinished_{name}"
    _create_empty(connection, unfinished)
    environment = {**os.environ, "DATABASE_URL": address_of(url, unfinished)}
    done = run([sys.executable, "manage.py", "migrate", "--noinput"], cwd=ROOT, env=environment)
    if done.returncode:
        raise RuntimeError(f"manage.py migrate failed:\n{done.stderr[-2000:]}")
    _execute(connection, "ALTER DATABASE {} RENAME TO {}", unfinished, name)


def _create_empty(connection: "psycopg.Connection[tuple[str]]", name: str) -> None:
    _execute(connection, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
    _execute(connection, "CREATE DATABASE {}", name)


def _execute(connection: "psycopg.Connection[tuple[str]]", text: str, *names: str) -> None:
    connection.execute(sql.SQL(text).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]


def _digest_migrations() -> str:
    digest = hashlib.sha256()
    for path in sorted(ROOT.glob("*/migrations/*.py")):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def address_of(url: str, name: str) -> str:
    """The address of another database on the server of `url`."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
