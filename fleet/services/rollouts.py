"""Every step of a rollout: locked, checked, recorded and planned in one transaction."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from fleet.exceptions import InvalidFleetInputError, InvalidTransitionError, StaleRevisionError
from fleet.models import Deployment, Gate, Rollout, RolloutEvent, RolloutStage
from fleet.rules.assignment import buckets_of_percent
from fleet.rules.gate_metrics import (
    METRICS,
    Unit,
    is_gate_metric,
    title_of,
    unit_of,
    unmeasured_metrics,
)
from fleet.rules.stages import find_stage_fault
from fleet.rules.transitions import is_allowed
from fleet.selectors import count_states
from fleet.services.deployments import check_selector, check_target, queue_step_deltas
from fleet.services.plans import refresh_plan
from fleet.services.taken_back import check_reason
from fleet.services.variants import choose_variants
from registry.models import Version
from registry.services.audit import record_event

logger = logging.getLogger(__name__)

SYSTEM = "system"
#: Each may take as long as the server's answer, twice at every look.
MOST_QUERIES = 5
State = Rollout.State
PERSON = Rollout.PauseKind.PERSON


@transaction.atomic
def create_rollout(
    *,
    deployment_id: int,
    target_version: Version,
    stages: Sequence[Mapping[str, Any]],
    actor: str,
    gates: Sequence[Mapping[str, Any]] = (),
    created_by: Any = None,
    variants: Sequence[str] | None = None,
    reason: str = "",
    **options: Any,
) -> Rollout:
    """A draft; nothing reaches a device before it is started.

    Args:
        target_version: the deployment's stable version itself, when other variants of it are to
            be offered.
        stages: fields of `RolloutStage`, in order; percentages never fall and the last is 100.
        gates: fields of `Gate`.
        variants: names of the target's variants to offer; None for all that may be offered now.
            One that is attached later waits for a rollout of its own.
        reason: why; needed for a version that was taken back before.
        options: `is_approval_required`, `max_failures`, `max_failure_rate`, `max_in_flight`,
            `offers_per_minute`, `scheduled_at`.
    """
    deployment = Deployment.objects.select_related("model").get(pk=deployment_id)
    check_target(deployment, target_version)
    chosen = choose_variants(target_version, variants)
    check_reason(target_version, chosen, reason)
    if target_version.pk == deployment.stable_version_id and {v.pk for v in chosen} == set(
        deployment.variants.values_list("pk", flat=True)
    ):
        names = ", ".join(variant.name for variant in chosen)
        raise InvalidFleetInputError(
            f"{target_version} ({names}) is what {deployment.name} offers already"
        )
    fault = find_stage_fault(stages)
    if fault is not None:
        raise InvalidFleetInputError(fault)
    rollout = Rollout.objects.create(
        deployment=deployment,
        target_version=target_version,
        previous_version=deployment.stable_version,
        salt=secrets.token_hex(8),
        created_by=created_by,
        **options,
    )
    rollout.variants.set(chosen)
    rollout.previous_variants.set(deployment.variants.all())
    for index, stage in enumerate(stages):
        fields = {**stage, "canary_selector": check_selector(stage.get("canary_selector") or {})}
        RolloutStage.objects.create(rollout=rollout, index=index, **fields)
    if sum(bool(gate.get("query")) for gate in gates) > MOST_QUERIES:
        raise InvalidFleetInputError(f"At most {MOST_QUERIES} gates of a rollout have a query")
    unmeasured = unmeasured_metrics(target_version.contract)
    for gate in gates:
        check_gate(gate)
        if gate["metric"] in unmeasured:
            raise InvalidFleetInputError(
                f"{target_version} is read as {target_version.contract['task']} in the form "
                f"{target_version.contract['form']}: it has no {title_of(gate['metric']).lower()}, "
                "and a gate on it would never pass",
                {"metric": gate["metric"]},
            )
        Gate.objects.create(rollout=rollout, **gate)
    # While it is a draft there is time; the first device that is offered it finds them ready.
    queue_step_deltas(deployment.stable_version, target_version)
    offered = ", ".join(variant.name for variant in chosen)
    words = f"{deployment.name}: to {target_version.version} ({offered})"
    _record(rollout, "create", "", actor, f"{words}: {reason}" if reason else words)
    return rollout


def check_gate(gate: Mapping[str, Any]) -> None:
    """Nothing when the gate's metric is one and its threshold is a margin.

    Raises:
        InvalidFleetInputError: in words.
    """
    metric = str(gate.get("metric", ""))
    threshold = float(gate.get("threshold", 0))
    if not is_gate_metric(metric):
        raise InvalidFleetInputError(
            f"{metric!r} is no metric; there are {', '.join(METRICS)}, and own:… for your own"
        )
    if not math.isfinite(threshold):
        raise InvalidFleetInputError(f"A threshold is a finite number; got {threshold}")
    least = 1.0 if unit_of(metric) is Unit.RATIO else 0.0
    if metric in METRICS and threshold <= least:
        raise InvalidFleetInputError(
            f"The margin of {metric} is above {least:g}; got {threshold:g}"
        )
    if gate.get("query") and metric in METRICS:
        raise InvalidFleetInputError(f"{metric} is measured here; only own:… takes a query")
    if gate.get("query") and threshold <= 0:
        raise InvalidFleetInputError(f"A query's threshold is a margin above 0; got {threshold:g}")


@transaction.atomic
def start_rollout(
    *, rollout_id: int, actor: str, reason: str = "", revision: int | None = None
) -> Rollout:
    """The rollout on its way: waiting for approval, for its time, or running."""
    rollout = _lock(rollout_id, "start", revision)
    before = rollout.state
    if before == State.DRAFT and rollout.is_approval_required:
        rollout.state = State.AWAITING_APPROVAL
    else:
        _begin(rollout)
    return _record(rollout, "start", before, actor, reason)


@transaction.atomic
def approve_rollout(
    *,
    rollout_id: int,
    actor: str,
    reason: str = "",
    revision: int | None = None,
    approved_by: Any = None,
) -> Rollout:
    """The rollout approved and on its way."""
    rollout = _lock(rollout_id, "approve", revision)
    before = rollout.state
    rollout.approved_by = approved_by
    _begin(rollout)
    return _record(rollout, "approve", before, actor, reason)


@transaction.atomic
def advance_rollout(
    *,
    rollout_id: int,
    actor: str,
    reason: str = "",
    revision: int | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Rollout:
    """The rollout at its next stage, or completed after the last."""
    rollout = _lock(rollout_id, "advance", revision)
    now = timezone.now()
    rollout.stages.filter(index=rollout.current_stage).update(finished_at=now)
    following = rollout.stages.filter(index=rollout.current_stage + 1).first()
    if following is not None:
        _enter_stage(rollout, following, now)
        return _record(rollout, "advance", State.RUNNING, actor, reason, evidence)
    rollout.state = State.COMPLETED
    rollout.finished_at = now
    deployment = Deployment.objects.select_for_update().get(pk=rollout.deployment_id)
    deployment.stable_version_id = rollout.target_version_id
    deployment.save(update_fields=["stable_version", "updated_at"])
    deployment.variants.set(rollout.variants.all())
    return _record(rollout, "complete", State.RUNNING, actor, reason, evidence)


@transaction.atomic
def pause_rollout(
    *,
    rollout_id: int,
    actor: str,
    reason: str = "",
    revision: int | None = None,
    kind: str = Rollout.PauseKind.PERSON,
    evidence: Mapping[str, Any] | None = None,
) -> Rollout:
    """The rollout held where it is: no further device is reached, nobody is sent back.

    A person's pause works whatever revision they saw, and holds a rollout that the server had
    paused until a person resumes it.
    """
    rollout = _lock(rollout_id, "pause", revision if actor == SYSTEM else None)
    before = rollout.state
    if before == State.PAUSED and (rollout.pause_kind == PERSON or kind != PERSON):
        return rollout
    rollout.state = State.PAUSED
    rollout.pause_kind = kind
    return _record(rollout, "pause", before, actor, reason, evidence)


@transaction.atomic
def resume_rollout(
    *,
    rollout_id: int,
    actor: str,
    reason: str = "",
    revision: int | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Rollout:
    """The rollout running again; a person's resume starts the stage's clock anew."""
    rollout = _lock(rollout_id, "resume", revision)
    rollout.state = State.RUNNING
    rollout.pause_kind = Rollout.PauseKind.NONE
    if actor != SYSTEM:
        rollout.stages.filter(index=rollout.current_stage).update(started_at=timezone.now())
    return _record(rollout, "resume", State.PAUSED, actor, reason, evidence)


@transaction.atomic
def abort_rollout(
    *,
    rollout_id: int,
    actor: str,
    reason: str = "",
    revision: int | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Rollout:
    """The rollout ended: offers stop at once and its devices are offered the stable version
    again, as a new assignment with a higher counter.

    A person's abort works whatever revision they saw; once more changes nothing.
    """
    rollout = _lock(rollout_id, "abort", revision if actor == SYSTEM else None)
    before = rollout.state
    if before == State.ABORTING:
        return rollout
    if before in Rollout.LIVE_STATES:
        rollout.state = State.ABORTING
    else:
        rollout.state = State.ABORTED
        rollout.finished_at = timezone.now()
    rollout.pause_kind = Rollout.PauseKind.NONE
    return _record(rollout, "abort", before, actor, reason, evidence)


@transaction.atomic
def add_reason(*, rollout_id: int, actor: str, reason: str) -> Rollout:
    """The rollout with a reason added to its timeline, for what was done in a hurry."""
    if not reason.strip():
        raise InvalidFleetInputError("The reason is empty")
    rollout = _lock(rollout_id, "note", None)
    return _record(rollout, "note", rollout.state, actor, reason)


@transaction.atomic
def finish_abort(*, rollout_id: int, is_rolled_back: bool, reason: str) -> Rollout:
    """The aborted rollout at rest: `rolled_back` when devices had committed the target."""
    rollout = _lock(rollout_id, "finish_abort", None)
    rollout.state = State.ROLLED_BACK if is_rolled_back else State.ABORTED
    rollout.finished_at = timezone.now()
    return _record(rollout, "finish_abort", State.ABORTING, SYSTEM, reason)


@transaction.atomic
def expose_more(*, rollout_id: int, buckets: int, now: datetime) -> None:
    """A throttled stage reaches further; part of the stage, so no transition."""
    rollout = Rollout.objects.select_for_update().get(pk=rollout_id)
    if rollout.state != State.RUNNING or buckets <= rollout.exposed_buckets:
        return
    rollout.exposed_buckets = buckets
    rollout.exposed_at = now
    rollout.save(update_fields=["exposed_buckets", "exposed_at"])
    refresh_plan(model_id=rollout.deployment.model_id)


def _begin(rollout: Rollout) -> None:
    now = timezone.now()
    if rollout.scheduled_at is not None and rollout.scheduled_at > now:
        if rollout.state == State.SCHEDULED:
            raise InvalidTransitionError(f"The rollout is scheduled for {rollout.scheduled_at}")
        rollout.state = State.SCHEDULED
        return
    check_target(rollout.deployment, rollout.target_version)
    others = Rollout.objects.select_for_update(of=("self",)).filter(
        deployment_id=rollout.deployment_id
    )
    others = others.exclude(pk=rollout.pk)
    if others.filter(state__in=[*Rollout.LIVE_STATES, State.ABORTING]).exists():
        raise InvalidTransitionError("Another rollout of this deployment is under way")
    for other in others.filter(state__in=[State.AWAITING_APPROVAL, State.SCHEDULED]):
        before, other.state = other.state, State.SUPERSEDED
        other.finished_at = now
        _record(other, "supersede", before, SYSTEM, f"Rollout {rollout.pk} started")
    rollout.state = State.RUNNING
    rollout.started_at = now
    rollout.previous_version_id = rollout.deployment.stable_version_id
    rollout.previous_variants.set(rollout.deployment.variants.all())
    _enter_stage(rollout, rollout.stages.get(index=0), now)


def _enter_stage(rollout: Rollout, stage: RolloutStage, now: datetime) -> None:
    rollout.current_stage = stage.index
    stage.started_at = now
    stage.save(update_fields=["started_at"])
    rollout.exposed_at = now
    if rollout.max_in_flight is None and rollout.offers_per_minute is None:
        rollout.exposed_buckets = buckets_of_percent(stage.percent)


def _lock(rollout_id: int, action: str, revision: int | None) -> Rollout:
    rollout = (
        Rollout.objects.select_for_update(of=("self",))
        .select_related("deployment__model", "target_version")
        .get(pk=rollout_id)
    )
    if revision is not None and revision != rollout.revision:
        raise StaleRevisionError(
            f"Expected revision {revision}; the rollout is at {rollout.revision}",
            {"revision": rollout.revision, "state": rollout.state},
        )
    if not is_allowed(action, rollout.state):
        raise InvalidTransitionError(
            f"A rollout that is {rollout.state} cannot {action.replace('_', ' ')}",
            {"state": rollout.state},
        )
    return rollout


def _record(
    rollout: Rollout,
    action: str,
    before: str,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
) -> Rollout:
    rollout.revision += 1
    rollout.reason = reason[:500]
    rollout.save()
    numbers = {"devices": count_states(rollout), **(evidence or {})}
    RolloutEvent.objects.create(
        rollout=rollout,
        revision=rollout.revision,
        action=action,
        from_state=before,
        to_state=rollout.state,
        stage_index=rollout.current_stage,
        actor=actor,
        reason=reason[:500],
        evidence=numbers,
    )
    refresh_plan(model_id=rollout.deployment.model_id)
    record_event(
        actor=actor,
        action=f"rollout.{action}",
        obj=rollout,
        summary=f"Rollout {rollout.pk}: {before or 'new'} → {rollout.state}, "
        f"stage {rollout.current_stage + 1}",
        details={"reason": reason, **numbers},
    )
    return rollout
