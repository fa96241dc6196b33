"""Measurements that arrive for a rollout's gates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from fleet.models import Gate, GateEvaluation, Rollout
from fleet.rules.gates import Evidence, GateLimits, Verdict, evaluate_gate


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
) -> GateEvaluation | None:
    """The gate's answer to one measurement, kept beside its threshold.

    None when the rollout has no gate for the metric or is not at this stage any more: what was
    measured at one stage says nothing about the next.

    Args:
        value: in the metric's own unit; larger is worse; None when it could not be computed.
        devices: how many devices the value rests on.
        details: JSON values; a number under `lower` is the value's lower confidence bound.
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
        evidence = Evidence(
            value=value,
            devices=devices,
            samples=samples,
            at=at or now,
            lower=_number(details.get("lower")),
        )
        return GateEvaluation.objects.create(
            gate=gate,
            stage_index=stage_index,
            verdict=evaluate_gate(_limits(gate), evidence, now).value,
            value=_number(value),
            threshold=gate.threshold,
            control_value=_number(control_value),
            devices=max(devices, 0),
            samples=max(samples, 0),
            details=details,
            at=evidence.at,
        )


def read_gate(gate: Gate, stage_index: int, now: datetime) -> tuple[Verdict, GateEvaluation | None]:
    """The gate's verdict now, on the stage's latest evidence; old evidence counts as none."""
    latest = gate.evaluations.filter(stage_index=stage_index).order_by("-id").first()
    if latest is None:
        return Verdict.NO_DATA, None
    evidence = Evidence(
        value=latest.value,
        devices=latest.devices,
        samples=latest.samples,
        at=latest.at,
        lower=_number(latest.details.get("lower")),
    )
    return evaluate_gate(_limits(gate), evidence, now), latest


def _limits(gate: Gate) -> GateLimits:
    return GateLimits(
        threshold=gate.threshold,
        min_devices=gate.min_devices,
        min_samples=max(gate.min_samples, _stage_min_samples(gate)),
        max_age=timedelta(seconds=gate.max_age_seconds),
    )


def _stage_min_samples(gate: Gate) -> int:
    """The stage's own minimum, for gates that count samples (not installs)."""
    if gate.metric == Gate.Metric.INSTALL_FAILURE_RATE:
        return 0
    stage = gate.rollout.stages.filter(index=gate.rollout.current_stage).first()
    return stage.min_samples if stage else 0


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
