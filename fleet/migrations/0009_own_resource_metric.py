"""The metric `resource` had no measure of its own: it is one that people push."""

from typing import Any

from django.db import migrations


def name_own(apps: Any, _schema_editor: Any) -> None:
    apps.get_model("fleet", "Gate").objects.filter(metric="resource").update(metric="own:resource")


def name_back(apps: Any, _schema_editor: Any) -> None:
    apps.get_model("fleet", "Gate").objects.filter(metric="own:resource").update(metric="resource")


class Migration(migrations.Migration):
    dependencies = [("fleet", "0008_gate_metrics")]

    operations = [migrations.RunPython(name_own, name_back)]
