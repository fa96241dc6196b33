"""Which decisions and findings become events, and that reading a page makes none."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from compression.announce import tell_job
from fleet.models import Rollout
from fleet.services.devices import quarantine_release, rotate_credential
from fleet.services.incidents import follow_incidents
from fleet.services.rollouts import (
    abort_rollout,
    advance_rollout,
    approve_rollout,
    finish_abort,
    pause_rollout,
    resume_rollout,
    start_rollout,
)
from ingest.models import AlertRule, Incident
from ingest.services.incidents import mute_incident, record_incident_event
from notifications.models import OutboxEvent
from registry.events import Event, known_kinds, publish
from registry.services.aliases import move_alias
from registry.services.audit import record_event
from registry.services.versions import transition_version
from tests.factories.fleet import make_deployment, make_device, make_release, make_rollout
from tests.factories.registry import make_model

pytestmark = pytest.mark.django_db


def told(prefix: str = "") -> list[str]:
    rows = OutboxEvent.objects.filter(kind__startswith=prefix).order_by("pk")
    return list(rows.values_list("kind", flat=True))


def test_a_kind_that_nobody_declared_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"rolout\.started"):
        publish([Event(kind="rolout.started", summary="", at=timezone.now())])
    assert len(known_kinds()) > 25


def test_a_version_is_told_of_when_others_may_act_on_it() -> None:
    version = make_release(make_model(slug="digits"))
    move_alias(version=version, name="best", reason="", actor="ada")
    for to, reason in (("deprecated", ""), ("yanked", "leaks")):
        transition_version(version_id=version.pk, to=to, actor="ada", reason=reason)
    assert told() == ["alias.moved", "version.deprecated", "version.yanked"]
    event = OutboxEvent.objects.get(kind="version.yanked")
    assert (event.level, event.model_slug, event.actor) == ("critical", "digits", "ada")
    assert event.path == version.get_absolute_url() and event.details["reason"] == "leaks"


def test_every_step_of_a_rollout_is_told() -> None:
    stages = [{"percent": 10, "bake_seconds": 0}, {"percent": 100, "bake_seconds": 0}]
    rollout = make_rollout(stages=stages, is_approval_required=True)
    step: dict[str, Any] = {"rollout_id": rollout.pk, "actor": "ada"}
    start_rollout(**step)
    approve_rollout(**step)
    pause_rollout(**{**step, "actor": "system"}, kind="gate", reason="error_rate FAIL")
    resume_rollout(**step)
    advance_rollout(**step)
    pause_rollout(**{**step, "actor": "system"}, kind="no_evidence", reason="nothing")
    resume_rollout(**step)
    pause_rollout(**step, reason="lunch")
    resume_rollout(**step)
    advance_rollout(**step)
    assert told("rollout.") == [
        "rollout.approval_needed", "rollout.started", "rollout.gate_failed", "rollout.resumed",
        "rollout.stage_reached", "rollout.stalled", "rollout.resumed", "rollout.paused",
        "rollout.resumed", "rollout.completed",
    ]  # fmt: skip
    failed = OutboxEvent.objects.get(kind="rollout.gate_failed")
    assert "error_rate FAIL" in failed.summary and failed.level == "warning"
    resumed = OutboxEvent.objects.filter(kind="rollout.resumed").earliest("pk")
    assert failed.cause == resumed.cause and resumed.is_over and not failed.is_over


@pytest.mark.parametrize(("actor", "level"), [("system", "critical"), ("ada", "warning")])
def test_an_abort_is_told_and_so_is_its_end(actor: str, level: str) -> None:
    rollout: Rollout = make_rollout()
    start_rollout(rollout_id=rollout.pk, actor="ada")
    abort_rollout(rollout_id=rollout.pk, actor=actor, reason="drift")
    finish_abort(rollout_id=rollout.pk, is_rolled_back=True, reason="all are off")
    assert told("rollout.")[1:] == ["rollout.aborted", "rollout.rolled_back"]
    assert OutboxEvent.objects.get(kind="rollout.aborted").level == level


def test_devices_and_their_credentials_are_told_of() -> None:
    device, _ = make_device(device_id="cam-1")
    rotate_credential(device_id="cam-1", actor="ada")
    quarantine_release(device=device, manifest_sha256="a" * 64, reason="rollbacks")
    assert told("device.") == [
        "device.enrolled", "device.credential_changed", "device.quarantined",
    ]  # fmt: skip
    assert set(OutboxEvent.objects.values_list("device_id", flat=True)) == {"cam-1"}


def test_what_a_device_finds_wrong_is_one_cause_from_its_start_to_its_end() -> None:
    device, _ = make_device()
    now = timezone.now()
    finding = {"kind": "resource", "metric": "disk_free_mb", "value": 5, "threshold": 100}
    for reported in ([finding], [finding], []):
        follow_incidents(device=device, reported=reported, now=now)
    rows = list(OutboxEvent.objects.filter(kind__startswith="device_incident").order_by("pk"))
    assert [row.kind for row in rows] == ["device_incident.opened", "device_incident.resolved"]
    assert rows[0].cause == rows[1].cause and rows[1].is_over


def make_incident(**over: Any) -> Incident:
    deployment = make_deployment()
    return Incident.objects.create(
        rule=AlertRule.objects.create(name="any drift"), model=deployment.model,
        version=deployment.stable_version, metric="prediction_psi", slice="all",
        opened_at=timezone.now(), **{"status": "firing", "severity": "warning", **over},
    )  # fmt: skip


def change(incident: Incident, action: str, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(incident, name, value)
    record_incident_event(incident, action, "", timezone.now())


def test_an_incident_is_told_when_it_fires_grows_worse_and_ends() -> None:
    incident = make_incident()
    change(incident, "opened", status="pending")
    change(incident, "fired", status="firing")
    change(incident, "joined")
    change(incident, "escalated", severity="critical")
    change(incident, "no_data", status="no_data")
    change(incident, "resolved", status="resolved")
    assert told("incident.") == ["incident.opened", "incident.escalated", "incident.resolved"]
    rows = OutboxEvent.objects.filter(kind__startswith="incident")
    assert set(rows.values_list("cause", flat=True)) == {f"incident/{incident.pk}"}


def test_a_muted_incident_is_told_only_when_it_ends() -> None:
    incident, now = make_incident(), timezone.now()
    incident = mute_incident(
        incident_id=incident.pk, actor="ada", reason="known", until=now + timedelta(1), now=now
    )
    change(incident, "escalated", severity="critical")
    change(incident, "resolved", status="resolved")
    assert told("incident.") == ["incident.resolved"]


@pytest.mark.parametrize(
    ("state", "kind"),
    [("passed", "job.done"), ("failed", "job.failed"), ("timed_out", "job.failed"),
     ("cancelled", None)],
)  # fmt: skip
def test_the_end_of_a_job_is_told_unless_a_person_cancelled_it(
    state: str, kind: str | None
) -> None:
    from compression.models import Job

    version = make_release(make_model())
    job = Job(version=version, variant_name="int8")
    audit = record_event(
        actor="system", action="compression.ended", obj=None, summary="x", details={"state": state}
    )
    event = tell_job(audit, job)
    assert (event.kind if event else None) == kind


def test_a_change_of_trust_is_a_key_change() -> None:
    from registry.models import TrustMetadata

    row = TrustMetadata(role="root", version=3)
    record_event(actor="ada", action="trust.root_published", obj=row, summary="Root 3")
    assert told() == ["key.changed"]
