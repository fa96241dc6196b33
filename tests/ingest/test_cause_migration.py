"""Incidents of before, one for each metric and slice, become causes without loss."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

BEFORE = [("ingest", "0003_drift_of_devices")]
AFTER = [("ingest", "0006_incident_memory_moved")]


@pytest.mark.django_db(transaction=True)
def test_open_incidents_that_began_together_become_one_and_none_is_lost():
    executor = MigrationExecutor(connection)
    executor.migrate(BEFORE)
    # The other apps' tables stay as they are today.
    today = executor.loader.graph.leaf_nodes("registry")
    apps = executor.loader.project_state([*BEFORE, *today]).apps
    model = apps.get_model("registry", "Model").objects.create(slug="digits")
    version = apps.get_model("registry", "Version").objects.create(
        model=model, version="1.0.0", sequence=1, state="ready"
    )
    rule = apps.get_model("ingest", "AlertRule").objects.create(name="Any")
    incidents, events = (
        apps.get_model("ingest", "Incident"),
        apps.get_model("ingest", "IncidentEvent"),
    )
    now = timezone.now()
    rows = [
        ("all", "prediction_psi", "firing", 0),
        ("site=b", "prediction_psi", "acknowledged", 1),
        ("site=b", "confidence_drop", "firing", 2),
        ("all", "error_rate", "resolved", 0),
        ("site=c", "error_rate", "firing", 200),
    ]
    for slice_name, metric, status, hours in rows:
        incident = incidents.objects.create(
            rule=rule, model=model, version=version, slice=slice_name, metric=metric,
            status=status, value=0.5, threshold=0.2, recent=[True, True], calm=1,
            opened_at=now - timedelta(hours=300 - hours),
            acknowledged_by="ada" if status == "acknowledged" else "",
            resolved_at=now if status == "resolved" else None,
        )  # fmt: skip
        events.objects.create(incident=incident, action="opened", to_status="pending", at=now)
    executor = MigrationExecutor(connection)
    executor.migrate(AFTER)
    from ingest.models import Incident, IncidentEvent, IncidentFinding

    assert Incident.objects.count() == 5 and IncidentFinding.objects.count() == 5
    assert IncidentEvent.objects.filter(action="opened").count() == 5
    standing = Incident.objects.filter(status__in=Incident.OPEN_STATUSES).order_by("pk")
    assert [(row.slice, row.status, row.findings.count()) for row in standing] == [
        ("site=b", "acknowledged", 3),
        ("site=c", "firing", 1),
    ]
    merged = Incident.objects.filter(merged_into=standing[0])
    assert merged.count() == 2 and set(merged.values_list("status", flat=True)) == {"resolved"}
    assert IncidentFinding.objects.filter(recent=[True, True], calm=1).count() == 5
    assert not IncidentFinding.objects.filter(status="acknowledged").exists()
