"""Takes the counts that devices made, and gives each window what the newest of them says."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from fleet.selectors import cohorts_of_devices
from ingest import records
from ingest.exceptions import ForeignDeviceError
from ingest.models import Summary
from ingest.rules.counting import CellKey
from ingest.rules.revisions import difference
from ingest.rules.windows import WindowCounts, merge_counts, window_start
from ingest.selectors.releases import current_digests, releases_of_devices
from ingest.services.aggregation import raise_unless_isolated
from ingest.services.inbox import insert_rows
from ingest.services.intake import Delivery
from ingest.services.windows import add_to_windows
from ingest.summaries import (
    RawSummaries,
    decode_summaries,
    find_problem,
    to_window_counts,
)
from ingest.summaries import Summary as Told
from registry.exceptions import AviaryError
from registry.plain_text import is_storable, make_storable

logger = logging.getLogger(__name__)
_NEWER = (
    "ON CONFLICT (device_id, source, version_id, variant_key, told_start) DO UPDATE SET "
    "revision = excluded.revision, counts = excluded.counts, is_pending = excluded.is_pending, "
    "received_at = excluded.received_at, problem = excluded.problem "
    "WHERE ingest_summary.revision < excluded.revision "
    "RETURNING device_id, source, version_id, variant_key, told_start"
)
Answer = dict[str, Any]
_Key = tuple[int, str, int, int, int]


@dataclass
class _Sent:
    """A delivery on its way."""

    delivery: Delivery
    raw: RawSummaries | None = None
    error: Exception | None = None
    usable: list[tuple[Told, records.Release]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, stored: dict[_Key, int]) -> Answer:
        """What the device is told; what is newer than anything known is accepted."""
        accepted = sum(
            stored.get(_key(self, told, release)) == told.revision for told, release in self.usable
        )
        return {
            "accepted": accepted,
            "duplicates": len(self.usable) - accepted,
            "rejected": self.rejected,
            "window_s": settings.AVIARY_WINDOW_SECONDS,
            "summary_after_s": settings.AVIARY_SUMMARY_SECONDS,
        }


def receive_summaries(
    deliveries: Sequence[Delivery], received_at: datetime
) -> list[Answer | Exception]:
    """The answer to each request, or why there is none; all are committed when this returns.

    A revision that is not above the newest of its window changes nothing and is a duplicate. A
    window whose start lies in the future by the device's clock is counted in the one of now.
    """
    sent = [_read(delivery) for delivery in deliveries]
    good = [item for item in sent if item.error is None]
    stored: dict[_Key, int] = {}
    if good:
        _check(good, received_at)
        try:
            with transaction.atomic():
                stored = _store(good, received_at)
        except (OperationalError, InterfaceError) as error:
            for item in good:
                item.error = error
    return [item.error or item.answer(stored) for item in sent]


def _read(delivery: Delivery) -> _Sent:
    sent = _Sent(delivery)
    try:
        plain = records.inflate(delivery.body, delivery.encoding, settings.AVIARY_INGEST_MAX_BYTES)
        sent.raw = decode_summaries(plain)
        if sent.raw.device_id not in (None, delivery.device.device_id):
            raise ForeignDeviceError(
                f"The body names {sent.raw.device_id!r}; the credential is that of "
                f"{delivery.device.device_id!r}."
            )
    except AviaryError as error:
        sent.error = error
    return sent


def _check(sent: Sequence[_Sent], received_at: datetime) -> None:
    wanted = []
    for item in sent:
        assert item.raw is not None
        told = [row for row in item.raw.summaries if isinstance(row, Told)]
        names = {row.model_version for row in told if is_storable(row.model_version)}
        wanted.append((item.delivery.device, names))
    releases = releases_of_devices(wanted)
    for item in sent:
        assert item.raw is not None
        known = releases[item.delivery.device.pk]
        for index, row in enumerate(item.raw.summaries):
            problem, release = str(row), None
            if isinstance(row, Told):
                release = known.get((row.model, row.model_version))
                problem = find_problem(
                    row, release, settings.AVIARY_WINDOW_SECONDS, received_at.timestamp()
                )
                if not problem and release is not None:
                    item.usable.append((row, release))
                    continue
            item.rejected.append({"index": index, "reason": make_storable(problem)[:200]})


def _key(sent: _Sent, told: Told, release: records.Release) -> _Key:
    assert sent.raw is not None
    return (
        sent.delivery.device.pk, sent.raw.source, release.version_id, release.variant_id or 0,
        told.start,
    )  # fmt: skip


def _store(sent: Sequence[_Sent], received_at: datetime) -> dict[_Key, int]:
    """Key to revision of those that are newer than what was known."""
    pairs = {
        (item.delivery.device.pk, release.model): item.delivery.device
        for item in sent
        for _, release in item.usable
    }
    cohorts = cohorts_of_devices([(d, slug) for (_, slug), d in pairs.items()], received_at)
    seconds = settings.AVIARY_WINDOW_SECONDS
    latest = window_start(received_at.timestamp(), seconds)
    digests = current_digests(
        {
            (release.version_id, release.variant_id, told.baseline)
            for item in sent
            for told, release in item.usable
            if told.baseline
        }
    )
    newest: dict[_Key, Summary] = {}
    for item in sent:
        for told, release in item.usable:
            key = _key(item, told, release)
            if key in newest and newest[key].revision >= told.revision:
                continue
            newest[key] = Summary(
                device_id=key[0],
                source=key[1],
                version_id=release.version_id,
                variant_id=release.variant_id,
                variant_key=key[3],
                told_start=told.start,
                start=datetime.fromtimestamp(min(told.start, latest), UTC),
                cohort=cohorts[key[0], release.model],
                revision=told.revision,
                counts=to_window_counts(
                    told,
                    release.labels,
                    digests.get((release.version_id, release.variant_id, told.baseline or "")),
                ).to_json(),
                received_at=received_at,
            )
    # Always in the same order, so that two groups cannot wait for each other in a circle.
    rows = [newest[key] for key in sorted(newest)]
    return {
        (found[0], found[1], found[2], found[3], found[4]): newest[tuple(found)].revision
        for found in insert_rows(rows, _NEWER)
    }


def count_summaries(*, limit: int = 500) -> int:
    """Gives windows what up to `limit` summaries say that is not counted yet; how many were tried.

    Where one of many cannot be counted, each is counted by itself, and the guilty one keeps its
    problem until a newer revision comes.

    Raises:
        django.db.Error: the database itself failed.
    """
    with transaction.atomic():
        skips = connection.features.has_select_for_update_skip_locked
        pending = Summary.objects.filter(is_pending=True).order_by("id")
        rows = list(pending.select_for_update(skip_locked=skips)[:limit])
        try:
            with transaction.atomic():
                _count(rows)
        except Exception as error:
            raise_unless_isolated(error)
            logger.warning("%d summaries are counted one by one", len(rows), exc_info=True)
            for row in rows:
                _count_alone(row)
    return len(rows)


def _count(rows: Sequence[Summary]) -> None:
    added: dict[CellKey, WindowCounts] = {}
    for row in rows:
        newer = WindowCounts.from_json(row.counts)
        older = WindowCounts.from_json(row.counted or {})
        key = CellKey(
            row.device_id, row.version_id, row.variant_id, row.cohort, int(row.start.timestamp())
        )
        added[key] = merge_counts(added.get(key, WindowCounts()), difference(newer, older))
    add_to_windows(added)
    # Each of them is locked: no newer revision can have come meanwhile.
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(rows))
        if rows:
            cursor.execute(
                "UPDATE ingest_summary SET counted = counts, is_pending = %s "  # noqa: S608
                f"WHERE id IN ({marks})",
                [False, *(row.pk for row in rows)],
            )


def _count_alone(row: Summary) -> None:
    try:
        with transaction.atomic():
            _count([row])
    except Exception as error:
        raise_unless_isolated(error)
        logger.exception("summary %s cannot be counted", row.pk)
        problem = make_storable(f"{type(error).__name__}: {error}")[:500]
        Summary.objects.filter(pk=row.pk).update(is_pending=False, problem=problem)
