"""Measurements that arrive for a rollout's gates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from fleet.exceptions import InvalidFleetInputError, InvalidTransitionError
from fleet.models import Gate, GateEvaluation, Rollout
from fleet.rules.gate_metrics import METRICS, OWN_PREFIX, Source
from fleet.rules.gates import Evidence, GateLimits, Verdict, evaluate_gate, judge_installs

#: Values pushed to one gate: one a minute for a week.
MOST_PUSHED = 10_000


def submit_evidence(
    *,
    rollout_id: int,
    stage_index: int,
    metric: str,
    value: float | None,
    control_value: float | None = None,
    devices: int = 0,
    samples: int = 0,
    details: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    key: str = "",
) -> GateEvaluation | None:
    """The gate's answer to one measurement, kept beside its threshold.

    None when the rollout has no gate for the metric or is not at this stage any more: what was
    measured at one stage says nothing about the next.

    Args:
        value: in the metric's own unit; larger is worse; None when it could not be computed.
        devices: how many devices the value rests on.
        details: JSON values; numbers under `lower` and `upper` are the ends of an interval that
            holds at every look. An end that is absent is open; without both the value is exact.
    """
    details = dict(details or {})
    with transaction.atomic():
        gate = (
            Gate.objects.select_related("rollout")
            .filter(rollout_id=rollout_id, metric=metric, rollout__state__in=Rollout.LIVE_STATES)
            .first()
        )
        if gate is None or gate.rollout.current_stage != stage_index:
            return None
        now = timezone.now()
        said = GateEvaluation(
            gate=gate,
            stage_index=stage_index,
            value=_number(value),
            threshold=gate.threshold,
            control_value=_number(control_value),
            devices=max(devices, 0),
            samples=max(samples, 0),
            details=details,
            key=key,
            at=at or now,
        )
        said.verdict = _judge(gate, said, now).value
        said.save()
        return said


def push_own_evidence(
    *,
    rollout_id: int,
    metric: str,
    key: str,
    value: float,
    lower: float | None = None,
    upper: float | None = None,
    devices: int = 0,
    samples: int = 0,
    actor: str,
) -> tuple[GateEvaluation, bool]:
    """The answer to a value that somebody measured elsewhere, and whether it is new.

    The same `key` again gives the first answer and changes nothing.

    Args:
        metric: `own:…`, of one of the rollout's gates.
        value: larger is worse; exact unless `lower` or `upper` say where it may lie.

    Raises:
        InvalidFleetInputError: no such gate, ends that do not hold the value, or too many values.
        InvalidTransitionError: the rollout is not under way.
    """
    if not metric.startswith(OWN_PREFIX):
        raise InvalidFleetInputError(f"{metric} is measured here; push one of your own, own:…")
    if (lower is not None and lower > value) or (upper is not None and upper < value):
        raise InvalidFleetInputError(
            f"The value {value:g} lies outside its own interval, {lower} to {upper}"
        )
    with transaction.atomic():
        # Of two pushes with one key the second waits here, and then finds the first.
        gate = (
            Gate.objects.select_for_update(of=("self",))
            .select_related("rollout")
            .filter(rollout_id=rollout_id, metric=metric)
            .first()
        )
        if gate is None:
            raise InvalidFleetInputError(f"The rollout has no gate for {metric}")
        known = gate.evaluations.filter(key=key).first()
        if known is not None:
            return known, False
        if gate.rollout.state not in Rollout.LIVE_STATES:
            raise InvalidTransitionError(
                f"A rollout that is {gate.rollout.state} takes no evidence",
                {"state": gate.rollout.state},
            )
        if gate.evaluations.exclude(key="").count() >= MOST_PUSHED:
            raise InvalidFleetInputError(
                f"{metric} has {MOST_PUSHED:,} values of this rollout; no more are taken"
            )
        details: dict[str, Any] = {"reference": "given", "words": f"given by {actor}"}
        details |= {
            name: end for name, end in (("lower", lower), ("upper", upper)) if end is not None
        }
        said = submit_evidence(
            rollout_id=rollout_id,
            stage_index=gate.rollout.current_stage,
            metric=metric,
            value=value,
            devices=devices,
            samples=samples,
            details=details,
            key=key,
        )
    assert said is not None
    return said, True


def read_gate(gate: Gate, stage_index: int, now: datetime) -> tuple[Verdict, GateEvaluation | None]:
    """The gate's verdict now, on the stage's latest evidence; old evidence counts as none."""
    latest = gate.evaluations.filter(stage_index=stage_index).order_by("-id").first()
    if latest is None:
        return Verdict.NO_DATA, None
    return _judge(gate, latest, now), latest


def latest_details(
    rollout_id: int, stage_index: int, metrics: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Metric to the details of its latest evidence at this stage, where there is any."""
    newest = (
        GateEvaluation.objects.filter(
            gate__rollout_id=rollout_id, gate__metric__in=metrics, stage_index=stage_index
        )
        .order_by()
        .values("gate")
        .annotate(newest=Max("id"))
        .values("newest")
    )
    rows = GateEvaluation.objects.filter(pk__in=newest).select_related("gate")
    return {row.gate.metric: dict(row.details) for row in rows}


def _judge(gate: Gate, said: GateEvaluation, now: datetime) -> Verdict:
    metric = METRICS.get(gate.metric)
    max_age = timedelta(seconds=gate.max_age_seconds)
    if metric is not None and metric.source is Source.INSTALLATIONS:
        if now - said.at > max_age:
            return Verdict.NO_DATA
        failed, finished = (int(said.details.get(name) or 0) for name in ("failed", "finished"))
        return judge_installs(failed, finished, gate.threshold)
    evidence = Evidence(
        value=said.value,
        devices=said.devices,
        samples=said.samples,
        at=said.at,
        lower=_number(said.details.get("lower")),
        upper=_number(said.details.get("upper")),
    )
    return evaluate_gate(limits_of(gate), evidence, now)


def limits_of(gate: Gate) -> GateLimits:
    """What the gate demands at the rollout's stage now; a stage may ask for more records."""
    stage = next(
        (row for row in gate.rollout.stages.all() if row.index == gate.rollout.current_stage), None
    )
    return GateLimits(
        threshold=gate.threshold,
        min_devices=gate.min_devices,
        min_samples=max(gate.min_samples, stage.min_samples if stage else 0),
        max_age=timedelta(seconds=gate.max_age_seconds),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
