"""Turns inbox batches into window counts, each batch exactly once."""

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from ingest.columns import unpack_columns
from ingest.models import InboxBatch
from ingest.rules.counting import (
    Batch,
    CellKey,
    FeatureBins,
    count_batches,
    feature_bins,
)
from ingest.rules.windows import WindowCounts
from ingest.selectors.releases import active_baselines
from ingest.services.windows import add_to_windows
from registry.models import Baseline
from registry.plain_text import make_storable
from registry.services.audit import record_event

logger = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=10)
"""Until a batch that could not be counted is tried again; twice as long after each attempt."""


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
            raise_unless_isolated(error)
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
    added = count_inbox(batches)
    add_to_windows(added)
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
        raise_unless_isolated(error)
        logger.warning("inbox batch %s cannot be counted", batch.pk, exc_info=True)
        _set_back(batch, error, now)
        return 0


def raise_unless_isolated(error: Exception) -> None:
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


def count_inbox(batches: Sequence[InboxBatch]) -> dict[CellKey, WindowCounts]:
    """The counts of `batches` by window; records that are too old are left out."""
    read = []
    for batch in batches:
        columns, cohorts = unpack_columns(bytes(batch.payload))
        read.append(Batch(batch.device_id, columns, cohorts))
    releases = {key[:2] for batch in read for key in batch.columns.releases}
    return count_batches(
        read, seconds=settings.AVIARY_WINDOW_SECONDS, features=_feature_bins(releases)
    )


def _feature_bins(
    releases: Collection[tuple[int, int | None]],
) -> dict[tuple[int, int | None], FeatureBins | None]:
    baselines = active_baselines({version for version, _ in releases})
    return {
        (version, variant): feature_bins(found.profile, feature_suffix(found))
        for version, variant in releases
        if (found := baselines.get((version, variant)) or baselines.get((version, None)))
    }
