"""Policies that nobody gave a look-back get the default of today, a day of windows.

Rows made while the default was 4 kept it, and with it an alarm at each nightfall.
"""

from django.db import migrations

OLD, NEW = 4, 24


def raise_defaults(apps, schema_editor):
    """Raises every look-back of 4 that no recorded change of a person names."""
    policies = apps.get_model("ingest", "DriftPolicy").objects.filter(lookback_windows=OLD)
    changes = apps.get_model("registry", "AuditEvent").objects.filter(
        action="drift_policy.changed", object_id__in=[str(pk) for pk in policies.values_list("pk", flat=True)]
    )
    chosen = {
        event.object_id for event in changes if "lookback_windows" in event.details.get("after", {})
    }
    policies.exclude(pk__in=[int(pk) for pk in chosen]).update(lookback_windows=NEW)


class Migration(migrations.Migration):
    dependencies = [("ingest", "0006_incident_memory_moved"), ("registry", "0006_alias_protection")]
    operations = [migrations.RunPython(raise_defaults, migrations.RunPython.noop)]
