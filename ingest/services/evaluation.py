"""Judges the drift of models and keeps every judgement with its inputs."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from ingest.models import DriftEvaluation, DriftPolicy, RollUp
from ingest.rules.clusters import merge_clusters
from ingest.rules.fleet_judgement import (
    Judgement,
    Policy,
    judge_slice,
    reference_groups,
    settle_levels,
)
from ingest.rules.same_hours import PREFIX, FleetHours, judge_same_hours
from ingest.rules.windows import window_start
from ingest.selectors.rollups import (
    Baselines,
    CellHours,
    ReleaseCells,
    read_hours,
    read_releases,
    slices_of_cells,
)
from ingest.services.aggregation import feature_suffix
from ingest.services.causes import Scope, observe_evaluations
from ingest.services.device_tests import Changes, examine_devices
from registry.models import Model

logger = logging.getLogger(__name__)


def settle_delay() -> timedelta:
    """How long after its end a window is waited for: devices send in batches."""
    return timedelta(seconds=max(2, settings.AVIARY_WINDOW_SECONDS / 12))


def judged_period(now: datetime, lookback_windows: int) -> tuple[datetime, datetime]:
    """Start and end of the last complete windows that are judged at `now`."""
    seconds = settings.AVIARY_WINDOW_SECONDS
    end = window_start((now - settle_delay()).timestamp(), seconds)
    start = end - lookback_windows * seconds
    return datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)


def policy_of(model: Model) -> DriftPolicy:
    """The model's policy, or an unsaved one with the defaults."""
    return DriftPolicy.objects.filter(model=model).first() or DriftPolicy(model=model)


def plain_policy(row: DriftPolicy) -> Policy:
    """The values of `row` for the pure modules."""
    return Policy(**{item.name: getattr(row, item.name) for item in fields(Policy)})


def models_to_judge(now: datetime) -> list[int]:
    """Ids of models that have windows recent enough to be judged."""
    longest = max(
        [Policy().lookback_windows, *DriftPolicy.objects.values_list("lookback_windows", flat=True)]
    )
    start, end = judged_period(now, longest)
    ids = RollUp.objects.between(start, end).order_by().values_list("version__model", flat=True)
    # A model whose devices fell silent is judged too: its incidents turn to "no data".
    silent = Model.objects.filter(incidents__status__in=["firing", "acknowledged"]).distinct()
    return sorted({*ids.distinct(), *silent.values_list("pk", flat=True)})


@transaction.atomic
def evaluate_model(*, model_id: int, now: datetime) -> int:
    """Judges one model over its last complete windows; the number of judgements stored.

    Judging the same period twice stores nothing; two workers wait for each other.
    """
    model = Model.objects.select_for_update().get(pk=model_id)
    policy_row = policy_of(model)
    start, end = judged_period(now, policy_row.lookback_windows)
    if not _is_due(model, policy_row, end):
        return 0
    policy = plain_policy(policy_row)
    rows: list[DriftEvaluation] = []
    scopes: dict[tuple[int, int], Scope] = {}
    baselines = Baselines()
    window = timedelta(seconds=settings.AVIARY_WINDOW_SECONDS)
    for release in read_releases(model.pk, start, end, baselines):
        hours = read_hours(release, end, window, baselines)
        changes = examine_devices(release, policy, start, end)
        judged, scope = _judge_release(release, policy, hours, changes)
        scopes[release.version_id, release.own_variant or 0] = scope
        rule = asdict(policy)
        rows += [_row(item, model, release, rule, start, end, now) for item in judged]
    DriftEvaluation.objects.bulk_create(rows, batch_size=500)
    observe_evaluations(model=model, evaluations=rows, now=now, scopes=scopes)
    breaches = sum(row.status in DriftEvaluation.BREACHES for row in rows)
    logger.info("model %s: %d judgements, %d breaches", model.slug, len(rows), breaches)
    return len(rows)


def examine_devices_of_model(*, model_id: int, now: datetime) -> int:
    """Tests devices of one model for its next judgement, if that is due; of how many releases."""
    model = Model.objects.get(pk=model_id)
    policy_row = policy_of(model)
    start, end = judged_period(now, policy_row.lookback_windows)
    if not _is_due(model, policy_row, end):
        return 0
    releases = read_releases(model.pk, start, end, Baselines())
    for release in releases:
        examine_devices(release, plain_policy(policy_row), start, end)
    return len(releases)


def _is_due(model: Model, policy_row: DriftPolicy, end: datetime) -> bool:
    latest = (
        DriftEvaluation.objects.filter(model=model)
        .order_by("-period_end")
        .values_list("period_end", flat=True)
        .first()
    )
    interval = policy_row.interval_seconds or settings.AVIARY_WINDOW_SECONDS
    is_new = latest is None or end >= latest + timedelta(seconds=interval)
    return policy_row.is_enabled and is_new


def _judge_release(
    release: ReleaseCells, policy: Policy, hours: Sequence[CellHours], changes: Changes
) -> tuple[list[Judgement], Scope]:
    """Every slice of one release, and what it takes to tell causes apart."""
    profile = release.baseline.profile if release.baseline else None
    suffix = feature_suffix(release.baseline) if release.baseline else ""
    members = slices_of_cells(list(release.cells))
    labels = [*(profile or {}).get("labels", []), "other"]
    then = reference_groups(profile)

    known: dict[tuple[str, ...], list[Judgement]] = {}

    def judge(name: str, cells: Sequence[str], only: str | None = None) -> list[Judgement]:
        """Of the same devices under another name, what was found before."""
        key = tuple(sorted(cells))
        found = known.get(key) or known.get((*key, only or ""))
        if found is None:
            found = known[key if only is None else (*key, only)] = find(name, cells, only)
        chosen = found if only is None else [item for item in found if item.metric == only]
        return [replace(item, slice=name) for item in chosen]

    def find(name: str, cells: Sequence[str], only: str | None) -> list[Judgement]:
        judged = judge_slice(
            name,
            profile,
            suffix,
            merge_clusters(release.cells[cell] for cell in cells),
            policy,
            [change for cell in cells for change in changes.get(cell, ())],
            only,
            then,
        )
        if only is None or only.startswith(PREFIX):
            now, *days = [_hours_of(told, cells) for told in hours]
            beside = judge_same_hours(now, days, policy, labels, only)
            judged += [replace(item, slice=name) for item in beside]
        return judged

    def is_breach(cells: Sequence[str], metric: str) -> bool:
        alone = judge("rest", cells, metric)
        return any(item.status in DriftEvaluation.BREACHES for item in settle_levels(alone))

    judged = [item for name, cells in members.items() for item in judge(name, cells)]
    scope = Scope(
        members,
        is_breach,
        {cell: counts.devices for cell, counts in release.cells.items()},
        {cell: sum(change.is_changed for change in told) for cell, told in changes.items()},
        {
            cell: sum(change.p_value is not None for change in told)
            for cell, told in changes.items()
        },
    )
    return settle_levels(judged), scope


def _hours_of(told: CellHours, cells: Sequence[str]) -> FleetHours:
    return FleetHours(
        merge_clusters(told.last[cell] for cell in cells if cell in told.last),
        merge_clusters(told.long[cell] for cell in cells if cell in told.long),
    )


def _row(
    item: Judgement,
    model: Model,
    release: ReleaseCells,
    rule: dict[str, Any],
    start: datetime,
    end: datetime,
    now: datetime,
) -> DriftEvaluation:
    return DriftEvaluation(
        model=model,
        version_id=release.version_id,
        variant_id=release.own_variant,
        variant_key=release.own_variant or 0,
        baseline=release.baseline,
        slice=item.slice,
        metric=item.metric,
        period_start=start,
        period_end=end,
        status=item.status,
        value=item.value,
        threshold=item.threshold,
        threshold_critical=item.threshold_critical,
        lower_bound=item.lower_bound,
        n=item.n,
        n_eff=item.n_eff,
        n_reference=item.n_reference,
        devices=item.devices,
        design_effect=item.design_effect,
        bins=item.bins,
        p_value=item.p_warning,
        q_value=item.q_value,
        details=item.details,
        rule=rule,
        evaluated_at=now,
    )
