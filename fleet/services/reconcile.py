"""What the server does with rollouts on its own: judge, advance, pause, abort, expose."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from fleet.exceptions import InvalidTransitionError, StaleRevisionError
from fleet.kinds import count_buckets
from fleet.models import Installation, Rollout, RolloutStage, ServerPresence
from fleet.notices import stage_previews
from fleet.polling.plans import cohort_terms
from fleet.recount import recount
from fleet.rules.assignment import BUCKETS, buckets_of_percent
from fleet.rules.failure_rate import E_VALUE_LIMIT, failure_e_value
from fleet.rules.gate_metrics import INSTALLS
from fleet.rules.gates import Verdict
from fleet.rules.rollout_policy import Action, Decision, GateReading, RolloutFacts, decide_rollout
from fleet.selection import deployment_devices, matching
from fleet.selectors import count_states, count_still_on, has_commits
from fleet.services import rollouts as steps
from fleet.services.evidence import read_gate, submit_evidence
from fleet.services.installations import time_out_silent
from fleet.services.plans import refresh_due_plans
from fleet.services.presence import note_presence
from registry.units import write_count

logger = logging.getLogger(__name__)

State = Rollout.State


def tick_rollouts(*, now: datetime | None = None) -> int:
    """How many rollouts took a step; safe to call at any time and by several workers."""
    now = now or timezone.now()
    refresh_due_plans()
    presence = note_presence(now=now)
    time_out_silent(now=now, counted_from=presence.counted_from)
    moved = 0
    under_way = [State.SCHEDULED, *Rollout.LIVE_STATES, State.ABORTING]
    for rollout_id in Rollout.objects.filter(state__in=under_way).values_list("pk", flat=True):
        try:
            moved += tick_rollout(rollout_id=rollout_id, now=now)
        except (InvalidTransitionError, StaleRevisionError) as error:
            # A person or another worker was faster; the next tick sees what they did.
            logger.info("Rollout %s was not moved: %s", rollout_id, error.message)
    return moved


def tick_rollout(*, rollout_id: int, now: datetime) -> bool:
    """True when the rollout took a step."""
    rollout = (
        Rollout.objects.select_related("deployment__model", "target_version")
        .prefetch_related("stages", "gates")
        .get(pk=rollout_id)
    )
    if rollout.state == State.SCHEDULED:
        if rollout.scheduled_at is None or rollout.scheduled_at <= now:
            steps.start_rollout(
                rollout_id=rollout.pk,
                actor=steps.SYSTEM,
                reason="its time has come",
                revision=rollout.revision,
            )
            return True
        return False
    if rollout.state == State.ABORTING:
        return _finish_abort(rollout, now)
    if rollout.state not in Rollout.LIVE_STATES:
        return False
    counts = states_now(rollout, now=now)
    _submit_install_failures(rollout, counts, now)
    if rollout.state == State.RUNNING:
        _expose(rollout, counts, now)
    facts, evidence = rollout_facts(rollout, now, counts)
    return _act(rollout, decide_rollout(facts, now), evidence)


def states_now(
    rollout: Rollout, *, in_background: bool = False, now: datetime | None = None
) -> dict[str, int]:
    """Installation state to the number of devices in it, counted again after every transition."""
    found: dict[str, int] = recount(
        f"states:{rollout.pk}:{rollout.revision}",
        lambda: count_states(rollout),
        in_background=in_background,
        now=now,
    )
    return found


def recount_rollouts() -> int:
    """How many rollouts under way had what is counted of them made anew, where it was due."""
    rollouts = Rollout.objects.filter(state__in=[*Rollout.LIVE_STATES, State.ABORTING])
    for rollout in rollouts.select_related("deployment__model").prefetch_related("stages"):
        states_now(rollout, in_background=True)
        if is_throttled(rollout):
            reach_now(rollout, in_background=True)
    return len(rollouts)


def rollout_facts(
    rollout: Rollout, now: datetime, counts: dict[str, int] | None = None
) -> tuple[RolloutFacts, dict[str, Any]]:
    """What the policy decides on, and the same as JSON for the record."""
    stage = current_stage(rollout)
    counts = states_now(rollout, now=now) if counts is None else counts
    succeeded = counts.get(Installation.State.COMMITTED, 0)
    failed = sum(counts.get(state, 0) for state in Installation.FAILED_STATES)
    readings, shown = [], []
    for gate in rollout.gates.all():
        verdict, latest = read_gate(gate, rollout.current_stage, now)
        said = ""
        if latest is not None and verdict is not Verdict.PASS:
            # Where there is no value, the words say why.
            said = latest.details.get("words" if latest.value is None else "advice") or ""
        readings.append(
            GateReading(
                gate.metric, verdict, gate.action, is_dry_run=gate.is_dry_run, advice=str(said)
            )
        )
        shown.append(
            {
                "metric": gate.metric,
                "verdict": verdict.value,
                "value": latest.value if latest else None,
                "threshold": gate.threshold,
                "devices": latest.devices if latest else 0,
                "samples": latest.samples if latest else 0,
                "is_dry_run": gate.is_dry_run,
            }
        )
    facts = RolloutFacts(
        state=rollout.state,
        pause_kind=rollout.pause_kind,
        is_last_stage=stage.index == max(s.index for s in rollout.stages.all()),
        is_automatic=stage.advance == RolloutStage.Advance.AUTO,
        stage_started_at=stage.started_at or now,
        bake=timedelta(seconds=stage.bake_seconds),
        patience=timedelta(seconds=stage.patience_seconds),
        min_devices=stage.min_devices,
        success_threshold=stage.success_threshold,
        succeeded=succeeded,
        failed=failed,
        max_failures=rollout.max_failures,
        max_failure_rate=rollout.max_failure_rate,
        is_exposed=rollout.exposed_buckets >= buckets_of_percent(stage.percent),
        # Counted only while nothing has answered: it takes all devices of the deployment.
        reached=None if counts else count_reached(rollout),
        gates=tuple(readings),
    )
    return facts, {"succeeded": succeeded, "failed": failed, "gates": shown}


def count_reached(rollout: Rollout) -> int:
    """Accepted devices for which the current stage changes something."""
    row = stage_previews(rollout)[rollout.current_stage]
    return int(row["devices"] - row["incompatible"] - row["unchanged"])


def current_stage(rollout: Rollout) -> RolloutStage:
    """The stage the rollout stands at."""
    return next(s for s in rollout.stages.all() if s.index == rollout.current_stage)


def _act(rollout: Rollout, decision: Decision, evidence: dict[str, Any]) -> bool:
    if decision.action == Action.WAIT:
        return False
    step: dict[str, Any] = {
        "rollout_id": rollout.pk,
        "actor": steps.SYSTEM,
        "reason": decision.reason,
        "revision": rollout.revision,
        "evidence": evidence,
    }
    if decision.action in (Action.ADVANCE, Action.COMPLETE):
        steps.advance_rollout(**step)
    elif decision.action == Action.PAUSE:
        steps.pause_rollout(kind=decision.pause_kind, **step)
    elif decision.action == Action.RESUME:
        steps.resume_rollout(**step)
    else:
        # Kept with the event: the version is marked as taken back wherever it can be chosen.
        step["evidence"] = {**evidence, "is_automatic_undo": True}
        steps.abort_rollout(**step)
    return True


def _submit_install_failures(rollout: Rollout, counts: dict[str, int], now: datetime) -> None:
    if not any(g.metric == INSTALLS for g in rollout.gates.all()):
        return
    failed = sum(counts.get(state, 0) for state in Installation.FAILED_STATES)
    finished = failed + counts.get(Installation.State.COMMITTED, 0)
    gate = next(g for g in rollout.gates.all() if g.metric == INSTALLS)
    value = failed / finished if finished else None
    latest = gate.evaluations.filter(stage_index=rollout.current_stage).first()
    repeat_after = timedelta(seconds=min(gate.max_age_seconds / 2, 600))
    if (
        latest is not None
        and now - latest.at < repeat_after
        and (latest.value, latest.devices) == (value, finished)
    ):
        return
    submit_evidence(
        rollout_id=rollout.pk,
        stage_index=rollout.current_stage,
        metric=INSTALLS,
        value=value,
        devices=finished,
        samples=finished,
        details={
            "failed": failed,
            "finished": finished,
            "e_value": min(failure_e_value(failed, finished - failed, gate.threshold), 1e12),
            "e_value_limit": E_VALUE_LIMIT,
        },
        at=now,
    )


def is_throttled(rollout: Rollout) -> bool:
    """True when a limit keeps the stage from reaching all its devices at once."""
    return rollout.max_in_flight is not None or rollout.offers_per_minute is not None


def reach_now(
    rollout: Rollout, *, in_background: bool = False, now: datetime | None = None
) -> tuple[int, list[int]]:
    """Devices of the deployment that canary selectors reach, and of the others how many are in
    each of the 10 000 buckets."""
    canaries = cohort_terms(rollout)["canaries"]

    def count() -> list[Any]:
        named = reduce(or_, map(matching, canaries), Q(pk__in=[]))
        devices = deployment_devices(rollout.deployment)
        by_selector = devices.filter(named).count() if canaries else 0
        others = devices.exclude(named) if canaries else devices
        return [by_selector, count_buckets(others, rollout.salt)]

    key = f"reach:{rollout.pk}:{rollout.current_stage}"
    by_selector, buckets = recount(key, count, in_background=in_background, now=now)
    return by_selector, buckets


def _expose(rollout: Rollout, counts: dict[str, int], now: datetime) -> None:
    """Lets a throttled stage reach as many more devices as its limits leave room for."""
    if not is_throttled(rollout):
        return
    reach = buckets_of_percent(current_stage(rollout).percent)
    if rollout.exposed_buckets >= reach:
        return
    by_selector, buckets = reach_now(rollout, now=now)
    devices = by_selector + sum(buckets)
    if not devices:
        return
    reached = by_selector + sum(buckets[: rollout.exposed_buckets])
    room = devices
    if rollout.max_in_flight is not None:
        # A reached device that has not finished holds a slot, whether it has polled or not.
        finished = sum(n for s, n in counts.items() if s not in Installation.IN_FLIGHT_STATES)
        room = min(room, rollout.max_in_flight - (reached - finished))
    if rollout.offers_per_minute is not None:
        minutes = (now - (rollout.exposed_at or now)).total_seconds() / 60
        room = min(room, int(rollout.offers_per_minute * minutes))
    if room > 0:
        more = max(1, room * BUCKETS // devices)
        exposed = min(reach, rollout.exposed_buckets + more)
        steps.expose_more(rollout_id=rollout.pk, buckets=exposed, now=now)
        rollout.exposed_buckets, rollout.exposed_at = exposed, now


def _finish_abort(rollout: Rollout, now: datetime) -> bool:
    """Ends an abort when no device reports the target any more, or after the offer's time."""
    still_on: int = recount(
        f"still-on:{rollout.pk}:{rollout.revision}", lambda: count_still_on(rollout), now=now
    )
    aborted_at = rollout.events.filter(action="abort").values_list("at", flat=True).first()
    presence = ServerPresence.objects.first()
    if aborted_at is not None and presence is not None:
        # Devices could not hear of the abort while the server was away.
        aborted_at = max(aborted_at, presence.counted_from)
    limit = timedelta(seconds=settings.AVIARY_OFFER_TIMEOUT_SECONDS)
    if still_on and aborted_at is not None and now - aborted_at < limit:
        return False
    reason = "every device is off the target"
    if still_on:
        reason = f"not heard of since the abort: {write_count(still_on, 'device')}"
    steps.finish_abort(rollout_id=rollout.pk, is_rolled_back=has_commits(rollout), reason=reason)
    return True
