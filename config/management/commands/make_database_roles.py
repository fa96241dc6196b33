"""The database role of the running server, which owns nothing and cannot touch the past."""

from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from psycopg import sql

#: What the role may do to a table beside the others, where it may do anything.
EXCEPT = {
    "registry_auditevent": ("SELECT", "INSERT"),
    "registry_audithead": ("SELECT", "INSERT", "UPDATE"),
    "django_migrations": ("SELECT",),
}
ANY = ("SELECT", "INSERT", "UPDATE", "DELETE")


class Command(BaseCommand):
    """`manage.py make_database_roles`, by the owner of the database, after `migrate`.

    The role is the user of `AVIARY_APP_DATABASE_URL`, with the password in there. It is made if it
    is not there, and left with exactly the rights told here: rows of every table, no table, no
    trigger, no TRUNCATE; of the audit log it reads and adds.
    """

    help = "Give the role of AVIARY_APP_DATABASE_URL the rights of the running server, and no more."

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.vendor != "postgresql":
            raise CommandError("Only PostgreSQL has roles")
        parts = urlsplit(settings.AVIARY_APP_DATABASE_URL)
        role, password = unquote(parts.username or ""), unquote(parts.password or "")
        if not role or not password:
            raise CommandError("AVIARY_APP_DATABASE_URL names no user with a password")
        if role == connection.settings_dict["USER"]:
            raise CommandError("AVIARY_APP_DATABASE_URL names the owner: expected another user")
        with transaction.atomic(), connection.cursor() as cursor:
            self._make(cursor, role, password)
            count = self._grant(cursor, role)
        self.stdout.write(f"{role} may use {count} tables and owns none")

    def _make(self, cursor: Any, role: str, password: str) -> None:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
        verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
        cursor.execute(
            sql.SQL(
                "{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS "
                "PASSWORD {}"
            ).format(verb, sql.Identifier(role), sql.Literal(password))
        )
        cursor.execute(
            "SELECT relname FROM pg_class JOIN pg_roles ON relowner = pg_roles.oid "
            "WHERE rolname = %s LIMIT 1",
            [role],
        )
        if owned := cursor.fetchone():
            raise CommandError(
                f"{role} owns {owned[0]}: hand it over first, with REASSIGN OWNED BY {role} TO "
                f"{connection.settings_dict['USER']}"
            )

    def _grant(self, cursor: Any, role: str) -> int:
        name = sql.Identifier(role)
        for text in (
            # PostgreSQL before 15 let everybody make tables here.
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}",
            "REVOKE ALL ON SCHEMA public FROM {}",
            "GRANT USAGE ON SCHEMA public TO {}",
            "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}",
            # What a later migration makes is usable at once; this command then narrows it.
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {}",
        ):
            cursor.execute(sql.SQL(text).format(name))
        tables = connection.introspection.table_names(cursor)
        for table in tables:
            rights = sql.SQL(", ").join(sql.SQL(word) for word in EXCEPT.get(table, ANY))
            cursor.execute(
                sql.SQL("GRANT {} ON {} TO {}").format(rights, sql.Identifier(table), name)
            )
        return len(tables)
