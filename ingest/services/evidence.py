"""Tells the fleet how canaries do, beside the strongest reference there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from fleet.rules.gate_metrics import METRICS, Source
from fleet.selectors import ActiveRollout, active_rollouts
from fleet.services.evidence import latest_details, submit_evidence
from ingest.rules.cohort_evidence import Evidence
from ingest.rules.cohort_judgement import judge_cohorts
from ingest.rules.distribution_gate import Look
from ingest.rules.windows import window_start
from ingest.selectors.cohorts import read_cohorts
from ingest.selectors.releases import baseline_of
from ingest.services.query_evidence import judge_queries
from ingest.services.telemetry_evidence import judge_telemetry

logger = logging.getLogger(__name__)


def push_evidence(*, rollout: ActiveRollout, now: datetime) -> list[Evidence]:
    """Submits what windows and telemetry since the stage began say about one active rollout.

    The window in which the stage began counts too: only canaries run the target in it.
    """
    entered = rollout.stage_started_at or rollout.started_at
    margins = {
        metric: threshold
        for metric, threshold in rollout.gates.items()
        if metric in METRICS and METRICS[metric].source in (Source.WINDOWS, Source.TELEMETRY)
    }
    if entered is None or not (margins or rollout.queries):
        return []
    since, began = _window_of(entered), _window_of(rollout.started_at or entered)
    hours = max((now - since).total_seconds() / 3600, 1 / 3600)
    cohorts = read_cohorts(
        model_id=rollout.model_id,
        target_version_id=rollout.target_version_id,
        previous_version_id=rollout.previous_version_id,
        began=began,
        since=since,
        new_variant_ids=rollout.new_variant_ids,
    )
    baseline = baseline_of(rollout.target_version_id, None)
    said = latest_details(rollout.rollout_id, rollout.stage_index, ["prediction_psi"])
    found = judge_cohorts(
        list(cohorts.canary.values()),
        list(cohorts.control.values()),
        baseline.profile if baseline else None,
        margins,
        hours=hours,
        looks={metric: _look(details) for metric, details in said.items()},
        now=now,
    )
    found += judge_telemetry(
        rollout_id=rollout.rollout_id,
        cohorts=cohorts,
        margins=margins,
        began=rollout.started_at or entered,
        since=entered,
        hours=hours,
    )
    # Before the transaction: a server may take its time to answer.
    found += judge_queries(
        queries=rollout.queries,
        cohorts=cohorts,
        margins=rollout.gates,
        began=rollout.started_at or entered,
        now=now,
        hours=hours,
    )
    with transaction.atomic():
        for item in found:
            submit_evidence(
                rollout_id=rollout.rollout_id,
                stage_index=rollout.stage_index,
                metric=item.metric,
                value=item.value,
                control_value=item.control_value,
                devices=item.devices,
                samples=item.samples,
                details=item.details,
                at=now,
            )
    return found


def push_all_evidence(*, now: datetime) -> int:
    """Submits evidence for every active rollout; the number of rollouts served."""
    served = 0
    for rollout in active_rollouts():
        try:
            push_evidence(rollout=rollout, now=now)
            served += 1
        except Exception:
            # One rollout's trouble must not leave the others without evidence.
            logger.exception("no evidence for rollout %s", rollout.rollout_id)
    return served


def _window_of(at: datetime) -> datetime:
    start = window_start(at.timestamp(), settings.AVIARY_WINDOW_SECONDS)
    return datetime.fromtimestamp(start, UTC)


def _look(details: Mapping[str, Any]) -> Look:
    said = details.get("look") or {}
    upper = said.get("upper")
    return Look(
        number=int(said.get("number") or 0),
        passes=int(said.get("passes") or 0),
        n_eff=float(said.get("n_eff") or 0.0),
        lower=float(said.get("lower") or 0.0),
        upper=math.inf if upper is None else float(upper),
    )
