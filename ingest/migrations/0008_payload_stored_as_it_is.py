"""Payloads are compressed already; PostgreSQL need not try it again for every row."""

from django.db import migrations


def store_as(kind):
    def change(apps, schema_editor):
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(
                f"ALTER TABLE ingest_inboxbatch ALTER COLUMN payload SET STORAGE {kind}"
            )

    return change


class Migration(migrations.Migration):
    dependencies = [("ingest", "0007_lookback_of_a_day")]

    operations = [migrations.RunPython(store_as("EXTERNAL"), store_as("EXTENDED"))]
