"""Judges the drift of models and keeps every judgement with its inputs."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from ingest.models import DriftEvaluation, DriftPolicy, Window
from ingest.rules.changed_devices import find_changed_devices
from ingest.rules.fleet_judgement import Judgement, Policy, judge_slice, settle_levels
from ingest.rules.same_hours import judge_same_hours
from ingest.rules.windows import merge_counts, window_start
from ingest.selectors.device_pasts import device_stories, same_hours
from ingest.selectors.fleet_windows import ReleaseWindows, release_windows, slice_members
from ingest.selectors.releases import baseline_of
from ingest.services.aggregation import feature_suffix
from ingest.services.causes import Scope, observe_evaluations
from registry.models import Baseline, Model

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
    ids = Window.objects.between(start, end).order_by().values_list("version__model", flat=True)
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
    latest = (
        DriftEvaluation.objects.filter(model=model)
        .order_by("-period_end")
        .values_list("period_end", flat=True)
        .first()
    )
    interval = policy_row.interval_seconds or settings.AVIARY_WINDOW_SECONDS
    if not policy_row.is_enabled or (latest and end < latest + timedelta(seconds=interval)):
        return 0
    policy = plain_policy(policy_row)
    rows: list[DriftEvaluation] = []
    scopes: dict[tuple[int, int], Scope] = {}
    for release, baseline in _by_baseline(release_windows(model.pk, start, end)):
        judged, scope = _judge_release(release, baseline, policy, start, end)
        own_variant = baseline.variant_id if baseline else None
        scopes[release.version_id, own_variant or 0] = scope
        rows += [
            _row(item, model, release, own_variant, baseline, policy, start, end, now)
            for item in judged
        ]
    DriftEvaluation.objects.bulk_create(rows, batch_size=500)
    observe_evaluations(model=model, evaluations=rows, now=now, scopes=scopes)
    breaches = sum(row.status in DriftEvaluation.BREACHES for row in rows)
    logger.info("model %s: %d judgements, %d breaches", model.slug, len(rows), breaches)
    return len(rows)


def _judge_release(
    release: ReleaseWindows,
    baseline: Baseline | None,
    policy: Policy,
    start: datetime,
    end: datetime,
) -> tuple[list[Judgement], Scope]:
    """Every slice of one release, and what it takes to tell causes apart."""
    profile = baseline.profile if baseline else None
    suffix = feature_suffix(baseline) if baseline else ""
    members = slice_members(release.devices)
    stories = device_stories(release.version_id, release.devices, start, end)
    found = find_changed_devices(
        list(stories.values()),
        error_limit=policy.warning_error_rate,
        latency_ratio=policy.warning_latency_ratio,
        reference_classes=((profile or {}).get("class") or {}).get("counts"),
    )
    changes = dict(zip(stories, found, strict=True))
    window = timedelta(seconds=settings.AVIARY_WINDOW_SECONDS)
    hours = same_hours(release.version_id, release.devices, end, window)
    labels = [*(profile or {}).get("labels", []), "other"]

    def judge(name: str, ids: Sequence[int]) -> list[Judgement]:
        judged = judge_slice(
            name,
            profile,
            suffix,
            [release.devices[device] for device in ids],
            policy,
            [changes[device] for device in ids if device in changes],
        )
        now, *days = [[told[device] for device in ids if device in told] for told in hours]
        beside = judge_same_hours(now, days, policy, labels)
        return judged + [replace(item, slice=name) for item in beside]

    def is_breach(ids: Sequence[int], metric: str) -> bool:
        alone = [item for item in judge("rest", ids) if item.metric == metric]
        return any(item.status in DriftEvaluation.BREACHES for item in settle_levels(alone))

    judged = [item for name, ids in members.items() for item in judge(name, ids)]
    scope = Scope(
        members,
        is_breach,
        frozenset(device for device, change in changes.items() if change.is_changed),
        frozenset(device for device, change in changes.items() if change.p_value is not None),
    )
    return settle_levels(judged), scope


def _by_baseline(
    releases: list[ReleaseWindows],
) -> list[tuple[ReleaseWindows, Baseline | None]]:
    """Releases whose reference is the same are judged together, others apart."""
    groups: dict[tuple[int, int | None], tuple[ReleaseWindows, Baseline | None]] = {}
    for release in releases:
        baseline = baseline_of(release.version_id, release.variant_id)
        key = (release.version_id, baseline.variant_id if baseline else None)
        if key not in groups:
            groups[key] = (release, baseline)
            continue
        devices = groups[key][0].devices
        for device_id, counts in release.devices.items():
            devices[device_id] = (
                merge_counts(devices[device_id], counts) if device_id in devices else counts
            )
    return list(groups.values())


def _row(
    item: Judgement,
    model: Model,
    release: ReleaseWindows,
    own_variant: int | None,
    baseline: Baseline | None,
    policy: Policy,
    start: datetime,
    end: datetime,
    now: datetime,
) -> DriftEvaluation:
    rule: dict[str, Any] = asdict(policy)
    return DriftEvaluation(
        model=model,
        version_id=release.version_id,
        variant_id=own_variant,
        variant_key=own_variant or 0,
        baseline=baseline,
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
