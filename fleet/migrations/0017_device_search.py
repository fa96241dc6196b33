"""Indexes for labels and for parts of ids, which PostgreSQL has and SQLite does without."""

import logging

from django.db import Error, migrations, transaction

logger = logging.getLogger(__name__)


def make_indexes(apps, schema_editor):
    connection = schema_editor.connection
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        # The labels of one device rarely change, its other columns with every flush of polls.
        cursor.execute(
            "CREATE INDEX fleet_device_labels ON fleet_device USING gin (effective_labels)"
        )
        try:
            with transaction.atomic(using=connection.alias):
                cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
                cursor.execute(
                    "CREATE INDEX fleet_device_id_parts ON fleet_device "
                    "USING gin (upper(device_id::text) gin_trgm_ops)"
                )
        except Error as error:
            # Finding a part of an id then reads every id, which takes longer and is as right.
            logger.warning("pg_trgm cannot be had, so searches by parts of ids are slow: %s", error)


def drop_indexes(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("DROP INDEX IF EXISTS fleet_device_labels, fleet_device_id_parts")


class Migration(migrations.Migration):
    dependencies = [("fleet", "0016_effective_labels")]

    operations = [migrations.RunPython(make_indexes, drop_indexes, elidable=False)]
