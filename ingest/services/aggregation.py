"""Turns inbox batches into window counts, each batch exactly once."""

import logging
import zlib
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from ingest.columns import unpack_columns
from ingest.models import InboxBatch, Window
from ingest.rules import bins
from ingest.rules.windows import NON_FINITE, WindowCounts, merge_counts, window_start
from ingest.selectors.releases import baseline_of
from registry.models import Baseline

logger = logging.getLogger(__name__)

#: device, version, variant, cohort, start in Unix seconds
WindowKey = tuple[int, int, int | None, str, int]
#: What decoding and counting of a damaged payload may raise.
_UNREADABLE = (zlib.error, msgspec.MsgspecError, ValueError, KeyError, IndexError, TypeError)
_Profiles = dict[tuple[int, int | None], Baseline | None]


def feature_suffix(baseline: Baseline) -> str:
    """Ends a feature's name in windows, so that counts by other edges never mix."""
    return f"@{baseline.sha256[:12]}"


def aggregate_batches(*, limit: int = 200) -> int:
    """Counts up to `limit` pending batches into windows; how many were counted or given up.

    Batches and windows change in one transaction: a crash leaves both as they were.
    """
    with transaction.atomic():
        batches = list(InboxBatch.objects.claim(limit))
        added: dict[WindowKey, WindowCounts] = defaultdict(WindowCounts)
        profiles: _Profiles = {}
        now = timezone.now()
        for batch in batches:
            try:
                parts = count_batch(batch, profiles)
            except _UNREADABLE as error:  # One such batch must not hold up all others.
                _give_up(batch, error)
                continue
            for key, counts in parts.items():
                added[key] = merge_counts(added[key], counts)
            batch.state = InboxBatch.State.DONE
            batch.aggregated_at = now
        # Always in the same order, so that two workers cannot wait for each other in a circle.
        for key in sorted(added, key=lambda key: (key[0], key[1], key[2] or 0, key[3], key[4])):
            _add_to_window(key, added[key])
        InboxBatch.objects.bulk_update(
            batches, ["state", "attempts", "problem", "aggregated_at"], batch_size=500
        )
    if batches:
        logger.info("counted %d batches into %d windows", len(batches), len(added))
    return len(batches)


def _give_up(batch: InboxBatch, error: Exception) -> None:
    batch.attempts += 1
    batch.problem = f"{type(error).__name__}: {error}"[:500]
    if batch.attempts >= InboxBatch.MAX_ATTEMPTS:
        batch.state = InboxBatch.State.FAILED
    logger.error("inbox batch %s cannot be counted: %s", batch.pk, batch.problem)


def _add_to_window(key: WindowKey, counts: WindowCounts) -> None:
    device_id, version_id, variant_id, cohort, start = key
    window, _ = Window.objects.get_or_create(
        device_id=device_id,
        version_id=version_id,
        variant_key=variant_id or 0,
        cohort=cohort,
        start=datetime.fromtimestamp(start, UTC),
        seconds=settings.AVIARY_WINDOW_SECONDS,
        defaults={"variant_id": variant_id},
    )
    window = Window.objects.select_for_update().get(pk=window.pk)
    merged = merge_counts(WindowCounts.from_json(window.counts), counts)
    window.n, window.errors, window.counts = merged.n, merged.errors, merged.to_json()
    window.save(update_fields=["n", "errors", "counts", "updated_at"])


def count_batch(batch: InboxBatch, profiles: _Profiles) -> dict[WindowKey, WindowCounts]:
    """The counts of one batch by window; records that are too old are left out."""
    body = unpack_columns(bytes(batch.payload))
    columns = body["columns"]
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, at in enumerate(columns["at"]):
        if not columns["too_old"][index]:
            start = window_start(at, settings.AVIARY_WINDOW_SECONDS)
            groups[(columns["release"][index], start)].append(index)
    result: dict[WindowKey, WindowCounts] = {}
    for (release, start), indices in groups.items():
        version_id, variant_id, model_id, labels = body["releases"][release]
        if (version_id, variant_id) not in profiles:
            profiles[(version_id, variant_id)] = baseline_of(version_id, variant_id)
        cohort = body["cohorts"].get(str(model_id), "stable")
        key = (batch.device_id, version_id, variant_id, cohort, start)
        result[key] = _count(columns, indices, labels, profiles[(version_id, variant_id)])
    return result


def _count(
    columns: dict[str, list[Any]], indices: list[int], labels: int, baseline: Baseline | None
) -> WindowCounts:
    def present(name: str) -> list[Any]:
        return [columns[name][i] for i in indices if columns[name][i] is not None]

    errors = [text for text in present("error") if text]
    failed = {i for i in indices if columns["error"][i]}
    # A failed inference has no latency worth comparing; its confidence, if any, is not trusted.
    good = [i for i in indices if i not in failed]
    latency = [columns["latency_ms"][i] for i in good]
    confidence = [columns["confidence"][i] for i in good if columns["confidence"][i] is not None]
    classes = [columns["class_id"][i] for i in good if columns["class_id"][i] is not None]
    return WindowCounts(
        n=len(indices),
        errors=len(errors),
        nonfinite=sum(text == NON_FINITE for text in errors),
        restamped=sum(bool(columns["restamped"][i]) for i in indices),
        latency_n=len(latency),
        latency_sum=float(sum(latency)),
        latency_sum_squares=float(sum(value * value for value in latency)),
        confidence_n=len(confidence),
        confidence_sum=float(sum(confidence)),
        confidence_sum_squares=float(sum(value * value for value in confidence)),
        confidence=bins.confidence_counts(confidence) if confidence else [],
        classes=bins.class_counts(classes, labels) if classes else [],
        latency=bins.latency_counts(latency),
        features=_count_features([columns["features"][i] for i in good], baseline),
    )


def _count_features(rows: list[Any], baseline: Baseline | None) -> dict[str, list[int]]:
    declared = (baseline.profile.get("features") or []) if baseline else []
    usable = [row for row in rows if row is not None and len(row) == len(declared)]
    if baseline is None or not declared or not usable:
        return {}
    return {
        feature["name"] + feature_suffix(baseline): bins.feature_counts(
            (row[index] for row in usable), feature["edges"]
        )
        for index, feature in enumerate(declared)
    }
