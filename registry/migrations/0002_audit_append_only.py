"""The database itself refuses to change audit events.

SQLite refuses UPDATE. PostgreSQL refuses UPDATE and DELETE; TRUNCATE is left to the owner of the
table, whom no trigger could stop.
"""

from typing import Any

from django.db import migrations

_SQLITE = """
CREATE TRIGGER registry_auditevent_no_update BEFORE UPDATE ON registry_auditevent
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END
"""
_POSTGRES = """
CREATE OR REPLACE FUNCTION registry_refuse_audit_change() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION 'audit events are append-only'; END
$$ LANGUAGE plpgsql;
CREATE TRIGGER registry_auditevent_no_change BEFORE UPDATE OR DELETE ON registry_auditevent
FOR EACH ROW EXECUTE FUNCTION registry_refuse_audit_change();
"""


def add_triggers(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(_SQLITE, params=None)
    elif schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(_POSTGRES, params=None)


def remove_triggers(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER registry_auditevent_no_update")
    elif schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "DROP TRIGGER registry_auditevent_no_change ON registry_auditevent; "
            "DROP FUNCTION registry_refuse_audit_change()",
            params=None,
        )


class Migration(migrations.Migration):
    dependencies = [("registry", "0001_initial")]
    operations = [migrations.RunPython(add_triggers, remove_triggers)]
