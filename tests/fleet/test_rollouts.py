"""Rollouts from draft to their end, by people and by the server itself."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.exceptions import InvalidTransitionError, StaleRevisionError
from fleet.models import (
    Device,
    GateEvaluation,
    Installation,
    InstallationEvent,
    Quarantine,
    Rollout,
)
from fleet.rules.transitions import RANKS, REPORTABLE, TERMINAL, next_installation_state
from fleet.selectors import active_rollouts, cohort_of_device
from fleet.services import rollouts
from fleet.services.devices import clear_quarantine
from fleet.services.evidence import submit_evidence
from fleet.services.poll_notes import flush_polls
from fleet.services.reconcile import tick_rollouts
from registry.models import AuditEvent
from registry.services.audit import verify_chain
from tests.factories.fleet import make_client, make_deployment, make_rollout, server_was_there

pytestmark = pytest.mark.django_db
STEPS = {
    "start": rollouts.start_rollout,
    "approve": rollouts.approve_rollout,
    "advance": rollouts.advance_rollout,
    "pause": rollouts.pause_rollout,
    "resume": rollouts.resume_rollout,
    "abort": rollouts.abort_rollout,
}


def stage(**over: Any) -> dict[str, Any]:
    return {"percent": 100, "bake_seconds": 0, "min_devices": 1, **over}


def begin(**over: Any) -> Rollout:
    rollout = make_rollout(**over)
    return rollouts.start_rollout(rollout_id=rollout.pk, actor="tester")


def state_of(rollout: Rollout) -> str:
    return str(Rollout.objects.get(pk=rollout.pk).state)


def test_a_rollout_completes_and_its_target_becomes_the_stable_version() -> None:
    deployment = make_deployment()
    devices = [make_client() for _ in range(3)]
    rollout = begin(
        deployment=deployment,
        stages=[stage(canary_selector={"site": ["lab"]}, percent=10), stage()],
    )
    assert tick_rollouts() == 0
    for device in devices:
        device.install(deployment.model.slug)
    assert tick_rollouts() == 1
    assert Rollout.objects.get().current_stage == 1
    assert tick_rollouts() == 1
    assert state_of(rollout) == "completed"
    deployment.refresh_from_db()
    assert deployment.stable_version_id == rollout.target_version_id
    for device in devices:
        assert device.poll(deployment.model.slug).status_code == 304
    actions = [event.action for event in rollout.events.order_by("revision")]
    assert actions == ["create", "start", "advance", "complete"]
    assert AuditEvent.objects.filter(action="rollout.complete", actor="system").exists()
    verify_chain()


def test_an_abort_offers_the_stable_version_again_and_ends_when_devices_are_back() -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    device.install(slug)
    rollout = begin(deployment=deployment)
    target = device.install(slug)
    assert target["version"] == rollout.target_version.version
    rollouts.abort_rollout(rollout_id=rollout.pk, actor="tester", reason="smells")
    assert device.report(target["assignment_id"], "committed", start=9).status_code == 410
    assert tick_rollouts() == 0 and state_of(rollout) == "aborting"
    back = device.install(slug)
    assert back["version"] == deployment.stable_version.version
    numbers = [int(a["assignment_id"].rsplit(".", 2)[1]) for a in (target, back)]
    assert numbers == sorted(set(numbers))
    tick_rollouts()
    assert state_of(rollout) == "rolled_back"


def test_an_abort_before_any_commit_ends_as_aborted() -> None:
    rollout = begin()
    rollouts.abort_rollout(rollout_id=rollout.pk, actor="tester")
    tick_rollouts()
    assert state_of(rollout) == "aborted"


def test_failing_devices_abort_a_rollout_and_are_quarantined_after_three_attempts() -> None:
    deployment = make_deployment()
    slug = deployment.model.slug
    devices = [make_client() for _ in range(4)]
    rollout = begin(deployment=deployment, max_failures=4)
    for device in devices:
        answer = device.poll(slug).json()
        for attempt in range(3):
            device.report(answer["assignment_id"], "failed", start=attempt, code="self_test_failed")
    assert Quarantine.objects.filter(cleared_at__isnull=True).count() == 4
    tick_rollouts()
    assert state_of(rollout) in ("aborting", "aborted")
    first = devices[0]
    assert Installation.objects.filter(device=first.device, code="self_test_failed").exists()
    assert clear_quarantine(device_id=first.device.device_id, actor="tester") == 1
    assert Device.objects.get(pk=first.device.pk).quarantined == []


def test_devices_that_lack_what_a_release_needs_are_incompatible_and_blame_nobody() -> None:
    deployment = make_deployment()
    slug = deployment.model.slug
    devices = [make_client() for _ in range(4)]
    rollout = begin(deployment=deployment, max_failures=1)
    unfit, fit = devices[:3], devices[3]
    for device in unfit:
        answer = device.poll(slug).json()
        device.report(answer["assignment_id"], "failed", code="requirement_unmet", detail="RAM")
    tick_rollouts()
    assert state_of(rollout) == "running"
    states = Installation.objects.filter(device__in=[device.device for device in unfit])
    assert {row.state for row in states} == {"incompatible"}
    assert {row.detail for row in states} == {"RAM"}
    fit.install(slug)
    tick_rollouts()
    assert state_of(rollout) == "completed"


def test_a_device_that_got_what_it_lacked_is_compatible_again() -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    begin(deployment=deployment)
    answer = device.poll(slug).json()
    device.report(answer["assignment_id"], "failed", code="requirement_unmet")
    device.report(answer["assignment_id"], "trial", "committed", start=1)
    assert Installation.objects.get(assignment_id=answer["assignment_id"]).state == "committed"


def test_a_quarantined_release_is_not_offered_again_until_cleared() -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    begin(deployment=deployment, max_failure_rate=1.0)
    answer = device.poll(slug).json()
    device.report(answer["assignment_id"], "failed", "downloading", "failed", "trial", "failed")
    assert device.poll(slug).json()["version"] == deployment.stable_version.version
    clear_quarantine(device_id=device.device.device_id, actor="tester")
    assert device.poll(slug).json()["version"] == answer["version"]


def test_repeated_events_are_no_ops_and_a_late_commit_is_the_truth() -> None:
    slug = make_deployment().model.slug
    device = make_client()
    answer = device.poll(slug).json()
    flush_polls()
    Installation.objects.update(updated_at=timezone.now() - timedelta(days=1))
    server_was_there(since=timezone.now() - timedelta(days=2))
    tick_rollouts()
    assert Installation.objects.get().state == "timed_out"
    first = device.report(answer["assignment_id"], "committed", start=3).json()
    again = device.report(answer["assignment_id"], "committed", start=3).json()
    assert (first, again) == (
        {"accepted": 1, "duplicates": 0},
        {"accepted": 0, "duplicates": 1},
    )
    assert Installation.objects.get().state == "committed"
    device.report(answer["assignment_id"], "downloading", start=9)
    assert Installation.objects.get().state == "committed"


def test_events_of_a_superseded_assignment_are_kept_and_answered_409() -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    old = device.install(slug)
    begin(deployment=deployment)
    response = device.report(old["assignment_id"], "rolled_back", start=20)
    assert response.status_code == 409
    assert response.json()["code"] == "assignment_superseded"
    assert Installation.objects.get(assignment_id=old["assignment_id"]).state == "rolled_back"


@pytest.mark.parametrize(
    "event", [{}, {"seq": -1, "state": "failed"}, {"seq": 1, "state": "regressed"}, {"seq": "1"}]
)
def test_a_malformed_event_is_400_and_changes_nothing(event: dict[str, Any]) -> None:
    device = make_client()
    answer = device.poll(make_deployment().model.slug).json()
    response = device.client.post(
        f"/api/deployments/{answer['assignment_id']}/events",
        event,
        content_type="application/json",
    )
    assert response.status_code == 400
    assert not InstallationEvent.objects.exists()


def test_a_gate_that_fails_aborts_and_is_shown_beside_its_threshold() -> None:
    deployment = make_deployment()
    gate = {"metric": "prediction_psi", "threshold": 0.1, "action": "abort", "min_devices": 3}
    rollout = begin(deployment=deployment, gates=[gate])
    make_client().install(deployment.model.slug)
    assert tick_rollouts() == 0
    said: dict[str, Any] = {"rollout_id": rollout.pk, "metric": "prediction_psi", "samples": 9}
    weak = submit_evidence(stage_index=0, value=0.5, devices=2, **said)
    assert weak is not None and weak.verdict == "inconclusive"
    assert tick_rollouts() == 0
    assert submit_evidence(stage_index=1, value=0.5, devices=3, **said) is None
    unsure = submit_evidence(
        stage_index=0, value=0.5, devices=3, details={"lower": 0.05, "upper": 0.9}, **said
    )
    assert unsure is not None and unsure.verdict == "inconclusive"
    strong = submit_evidence(
        stage_index=0, value=0.5, devices=3, control_value=0.01, details={"lower": 0.2}, **said
    )
    assert strong is not None and (strong.verdict, strong.threshold) == ("fail", 0.1)
    tick_rollouts()
    assert state_of(rollout) == "aborting"
    assert rollout.events.filter(action="abort", actor="system").exists()


def test_the_installation_failure_gate_is_measured_here() -> None:
    deployment = make_deployment()
    gate = {"metric": "install_failure_rate", "threshold": 0.2, "action": "pause"}
    rollout = begin(deployment=deployment, gates=[gate], max_failure_rate=0.9)
    slug = deployment.model.slug
    make_client().install(slug)
    for number in range(1, 4):
        bad = make_client()
        bad.report(bad.poll(slug).json()["assignment_id"], "failed")
        if number == 1:
            # One of two may be chance.
            tick_rollouts()
            evaluation = GateEvaluation.objects.get()
            assert (evaluation.value, evaluation.verdict) == (0.5, "pass")
            assert evaluation.details["e_value"] < evaluation.details["e_value_limit"]
        tick_rollouts()
    for _ in range(3):
        bad = make_client()
        bad.report(bad.poll(slug).json()["assignment_id"], "failed")
    tick_rollouts()
    evaluation = GateEvaluation.objects.first()
    assert (evaluation.verdict, evaluation.devices) == ("fail", 7)
    assert evaluation.details["e_value"] >= evaluation.details["e_value_limit"]
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "gate")


def test_a_stage_without_evidence_pauses_and_resumes_when_it_comes() -> None:
    deployment = make_deployment()
    rollout = begin(deployment=deployment, stages=[stage(patience_seconds=60)])
    later = timezone.now() + timedelta(seconds=61)
    assert tick_rollouts(now=later) == 1
    rollout.refresh_from_db()
    assert (rollout.state, rollout.pause_kind) == ("paused", "no_evidence")
    make_client().install(deployment.model.slug)
    tick_rollouts()
    assert state_of(rollout) == "running"
    tick_rollouts()
    assert state_of(rollout) == "completed"


def test_a_manual_stage_waits_for_a_person() -> None:
    deployment = make_deployment()
    rollout = begin(deployment=deployment, stages=[stage(advance="manual")])
    make_client().install(deployment.model.slug)
    assert tick_rollouts() == 0 and state_of(rollout) == "running"
    rollouts.advance_rollout(rollout_id=rollout.pk, actor="tester", reason="looks good")
    assert state_of(rollout) == "completed"


def test_approval_stands_between_start_and_running() -> None:
    rollout = begin(is_approval_required=True)
    assert rollout.state == "awaiting_approval"
    assert rollouts.approve_rollout(rollout_id=rollout.pk, actor="boss").state == "running"


def test_a_scheduled_rollout_starts_at_its_time() -> None:
    at = timezone.now() + timedelta(hours=1)
    rollout = begin(scheduled_at=at)
    assert rollout.state == "scheduled" and tick_rollouts() == 0
    Rollout.objects.update(scheduled_at=timezone.now() - timedelta(seconds=1))
    tick_rollouts()
    assert state_of(rollout) == "running"


def test_a_stale_revision_is_refused_and_leaves_no_trace() -> None:
    rollout = begin()
    with pytest.raises(StaleRevisionError):
        rollouts.advance_rollout(rollout_id=rollout.pk, actor="tester", revision=1)
    assert rollout.events.count() == 2


def test_only_one_rollout_of_a_deployment_is_under_way() -> None:
    rollout = begin()
    with pytest.raises(InvalidTransitionError):
        begin(deployment=rollout.deployment)


def test_a_throttled_stage_offers_no_more_than_its_slots() -> None:
    deployment = make_deployment()
    devices = [make_client(device_id=f"throttled-{number}") for number in range(8)]
    rollout = make_rollout(deployment=deployment, max_in_flight=3)
    Rollout.objects.update(salt="fixed")
    rollouts.start_rollout(rollout_id=rollout.pk, actor="tester")
    slug, target = deployment.model.slug, rollout.target_version.version
    assert all(d.poll(slug).json()["version"] != target for d in devices)
    for _ in range(30):
        tick_rollouts()
        assert sum(_is_offered(d, slug, target) for d in devices) <= 5
        for device in devices:
            if _is_offered(device, slug, target) and device.running == "":
                device.install(slug)
        if state_of(rollout) == "completed":
            break
    assert state_of(rollout) == "completed" or sum(bool(d.running) for d in devices) > 4


def _is_offered(device: Any, slug: str, target: str) -> bool:
    device.etag = ""
    return bool(device.poll(slug).json()["version"] == target and device.running == "")


def test_a_device_keeps_the_cohort_of_the_time_its_records_were_made() -> None:
    deployment = make_deployment()
    device = make_client().device
    before = timezone.now()
    rollout = begin(deployment=deployment)
    assert cohort_of_device(device, deployment.model, before) == "stable"
    assert cohort_of_device(device, deployment.model, timezone.now()) == "canary"
    row = active_rollouts()[0]
    assert (row.rollout_id, row.stage_index) == (rollout.pk, 0)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from([*STEPS, "tick"]), max_size=8), st.booleans())
def test_whatever_is_asked_a_rollout_ends_once_and_every_step_is_recorded(
    base: Rollout, steps: list[str], needs_approval: bool
) -> None:
    Rollout.objects.filter(state__in=["running", "paused", "aborting"]).update(state="aborted")
    base.deployment.refresh_from_db()
    target = base.target_version
    if base.deployment.stable_version_id == target.pk:
        target = base.previous_version  # type: ignore[assignment]
    rollout = make_rollout(
        deployment=base.deployment,
        target_version=target,
        is_approval_required=needs_approval,
        stages=[stage(percent=5), stage()],
    )
    ended = None
    for step in steps:
        before = Rollout.objects.get(pk=rollout.pk)
        if step == "tick":
            tick_rollouts()
        else:
            try:
                STEPS[step](rollout_id=rollout.pk, actor="tester", reason="a test")
            except InvalidTransitionError:
                after = Rollout.objects.get(pk=rollout.pk)
                assert (after.state, after.revision) == (before.state, before.revision)
        after = Rollout.objects.get(pk=rollout.pk)
        if ended is not None:
            assert after.state == ended
        ended = after.state if after.state in TERMINAL else None
    last = Rollout.objects.get(pk=rollout.pk)
    events = list(rollout.events.order_by("revision"))
    assert [event.revision for event in events] == list(range(1, last.revision + 1))
    assert events[-1].to_state == last.state
    for one, two in pairwise(events):
        assert one.to_state == two.from_state


@pytest.fixture
def base() -> Rollout:
    return make_rollout()


@given(st.lists(st.sampled_from(sorted(REPORTABLE)), max_size=12))
def test_an_installations_rank_never_falls(reports: list[str]) -> None:
    state = "offered"
    for report in reports:
        following = next_installation_state(state, report)
        assert RANKS[following] >= RANKS[state]
        state = following
