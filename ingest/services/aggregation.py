"""Turns inbox batches into window counts, each batch exactly once."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from ingest.columns import unpack_columns
from ingest.models import InboxBatch, Window
from ingest.rules import bins
from ingest.rules.windows import NON_FINITE, WindowCounts, merge_counts, window_start
from ingest.selectors.releases import baseline_of
from registry.models import Baseline
from registry.plain_text import make_storable
from registry.services.audit import record_event

logger = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=10)
"""Until a batch that could not be counted is tried again; twice as long after each attempt."""

#: device, version, variant, cohort, start in Unix seconds
WindowKey = tuple[int, int, int | None, str, int]
_Profiles = dict[tuple[int, int | None], Baseline | None]


def feature_suffix(baseline: Baseline) -> str:
    """Ends a feature's name in windows, so that counts by other edges never mix."""
    return f"@{baseline.sha256[:12]}"


def aggregate_batches(*, limit: int = 200, now: datetime | None = None) -> int:
    """Counts up to `limit` pending batches into windows; how many were tried.

    Batches and windows change in one transaction: a crash leaves both as they were. Where one of
    many cannot be counted or saved, each is counted by itself, so that the guilty one alone waits,
    longer each time, and after `InboxBatch.MAX_ATTEMPTS` is set aside for a person.

    Raises:
        django.db.Error: the database itself failed; nothing is held against any batch.
    """
    now = now or timezone.now()
    with transaction.atomic():
        batches = list(InboxBatch.objects.claim(limit, now))
        # One that failed before is never among others again.
        alone = [batch for batch in batches if batch.attempts]
        together = [batch for batch in batches if not batch.attempts]
        try:
            with transaction.atomic():
                windows = _count_into_windows(together, now)
        except Exception as error:
            _raise_unless_isolated(error)
            logger.warning("%d batches are counted one by one", len(together), exc_info=True)
            windows, alone = 0, batches
        for batch in alone:
            windows += _count_alone(batch, now)
    if batches:
        logger.info("counted %d batches into %d windows", len(batches), windows)
    return len(batches)


def retry_batches(*, batch_ids: Sequence[int], actor: str, reason: str = "") -> int:
    """Lets batches that were set aside be counted again; how many of `batch_ids` were.

    Each has its attempts anew, by itself.
    """
    with transaction.atomic():
        rows = InboxBatch.objects.filter(pk__in=batch_ids, state=InboxBatch.State.FAILED)
        found = list(rows.select_for_update().select_related("device").defer("payload"))
        rows.update(state=InboxBatch.State.PENDING, attempts=1, retry_at=None)
        for batch in found:
            record_event(
                actor=actor,
                action="inbox_batch.retried",
                obj=batch,
                summary=f"Batch {batch.batch_id} of {batch.device} is to be counted again",
                details={"problem": batch.problem, "reason": reason},
            )
    return len(found)


def _count_into_windows(batches: Sequence[InboxBatch], now: datetime) -> int:
    """Counts `batches` into windows and marks them done; the number of windows touched."""
    added: dict[WindowKey, WindowCounts] = defaultdict(WindowCounts)
    profiles: _Profiles = {}
    for batch in batches:
        for key, counts in count_batch(batch, profiles).items():
            added[key] = merge_counts(added[key], counts)
    # Always in the same order, so that two workers cannot wait for each other in a circle.
    for key in sorted(added, key=lambda key: (key[0], key[1], key[2] or 0, key[3], key[4])):
        _add_to_window(key, added[key])
    InboxBatch.objects.filter(pk__in=[batch.pk for batch in batches]).update(
        state=InboxBatch.State.DONE, aggregated_at=now, problem="", retry_at=None
    )
    return len(added)


def _count_alone(batch: InboxBatch, now: datetime) -> int:
    """Counts one batch, or notes why it could not be; the number of windows touched."""
    try:
        with transaction.atomic():
            return _count_into_windows([batch], now)
    except Exception as error:
        _raise_unless_isolated(error)
        logger.warning("inbox batch %s cannot be counted", batch.pk, exc_info=True)
        _set_back(batch, error, now)
        return 0


def _raise_unless_isolated(error: Exception) -> None:
    """Lets through what no batch is to blame for: the connection is gone, or time is up."""
    if isinstance(error, SoftTimeLimitExceeded) or connection.needs_rollback:
        raise error


def _set_back(batch: InboxBatch, error: Exception, now: datetime) -> None:
    batch.attempts += 1
    batch.problem = make_storable(f"{type(error).__name__}: {error}")[:500]
    batch.retry_at = now + FIRST_RETRY * 2 ** (batch.attempts - 1)
    if batch.attempts >= InboxBatch.MAX_ATTEMPTS:
        batch.state, batch.retry_at = InboxBatch.State.FAILED, None
        logger.error("inbox batch %s is set aside: %s", batch.pk, batch.problem)
    batch.save(update_fields=["state", "attempts", "problem", "retry_at"])


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
