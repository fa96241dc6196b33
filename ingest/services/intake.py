"""Takes what devices sent: acknowledged means stored, stored means counted once.

Batches are taken in groups: what waits while one group is committed makes the next one. A group
costs a fixed number of statements and one commit, whatever it holds; one batch is a group of one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, transaction

from fleet.models import Device
from fleet.selectors import cohorts_of_devices
from ingest import records
from ingest.columns import pack_columns
from ingest.exceptions import ForeignDeviceError, MalformedBatchError
from ingest.models import InboxBatch, RejectedRecord
from ingest.selectors.releases import releases_of_devices
from ingest.services.inbox import insert_new
from registry.exceptions import AviaryError
from registry.plain_text import is_storable

logger = logging.getLogger(__name__)
REASONS_ANSWERED = 20
REJECTED_KEPT = 50
"""Rejected records of one batch that are kept whole for people; the answer names all of them."""
Answer = dict[str, Any]


@dataclass(frozen=True)
class Delivery:
    """One request: whose, and the body as it came."""

    device: Device
    body: bytes
    encoding: str = ""


@dataclass
class _Batch:
    """A delivery on its way; `outcome` ends it."""

    delivery: Delivery
    raw: records.RawBatch | None = None
    checked: records.CheckedBatch | None = None
    outcome: Answer | Exception | None = None
    models: dict[int, str] = field(default_factory=dict)
    """Key to slug of those that the device may report about."""
    cohorts: dict[int, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[int, str]:
        """By which a repetition is known."""
        assert self.raw is not None
        return self.delivery.device.pk, self.raw.batch_id


def receive_batch(*, device: Device, body: bytes, encoding: str, received_at: datetime) -> Answer:
    """The answer to one request: counts, and index and reason of each bad record.

    Raises:
        BatchTooLargeError, UnsupportedEncodingError: see `records.inflate`.
        MalformedBatchError: not a batch, or not one usable record; nothing is stored.
        ForeignDeviceError: the body names another device.
    """
    (outcome,) = receive_batches([Delivery(device, body, encoding)], received_at)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def receive_batches(
    deliveries: Sequence[Delivery], received_at: datetime
) -> list[Answer | Exception]:
    """The answer to each request, or what `receive_batch` raises for it; no fault is another's.

    A batch id seen before gets the first answer again and stores nothing. A batch that replaces
    others, which the device could get no good answer to, stores nothing when one of them is here;
    else those ids are closed, so that one that arrives late stores nothing either. Everything is
    committed when this returns.
    """
    batches = [_read(delivery) for delivery in deliveries]
    _check(_open(batches), received_at)
    _recall(batch for batch in _open(batches) if not len(_checked(batch).columns))
    for batch in _open(batches):
        if not len(_checked(batch).columns):
            batch.outcome = _unusable(batch)
    _label(_open(batches), received_at)
    _store([batch for batch in _open(batches) if not _raw(batch).replaces], received_at)
    for batch in _open(batches):
        _store([batch], received_at)
    return [batch.outcome or OperationalError("The batch is gone.") for batch in batches]


def _open(batches: Iterable[_Batch]) -> list[_Batch]:
    return [batch for batch in batches if batch.outcome is None]


def _raw(batch: _Batch) -> records.RawBatch:
    assert batch.raw is not None
    return batch.raw


def _checked(batch: _Batch) -> records.CheckedBatch:
    assert batch.checked is not None
    return batch.checked


def _read(delivery: Delivery) -> _Batch:
    batch = _Batch(delivery)
    try:
        plain = records.inflate(delivery.body, delivery.encoding, settings.AVIARY_INGEST_MAX_BYTES)
        batch.raw = records.decode_batch(plain, settings.AVIARY_INGEST_MAX_RECORDS)
        named = batch.raw.device_id
        if named is not None and named != delivery.device.device_id:
            raise ForeignDeviceError(
                f"The body names {named!r}; the credential is that of "
                f"{delivery.device.device_id!r}."
            )
    except AviaryError as error:
        batch.outcome = error
    return batch


def _check(batches: Sequence[_Batch], received_at: datetime) -> None:
    if not batches:
        return
    releases = releases_of_devices(
        [(batch.delivery.device, _names_in(_raw(batch))) for batch in batches]
    )
    for batch in batches:
        known = releases[batch.delivery.device.pk]
        batch.models = {release.model_id: release.model for release in known.values()}
        batch.checked = records.check_batch(_raw(batch), known, received_at.timestamp())


def _names_in(raw: records.RawBatch) -> set[str]:
    names = {record.model_version for record in raw.records if isinstance(record, records.Record)}
    return {name for name in names if is_storable(name)}


def _recall(batches: Iterable[_Batch]) -> None:
    """Gives those that were stored before the answer of then."""
    waiting = list(batches)
    if not waiting:
        return
    rows = InboxBatch.objects.filter(
        device__in={batch.key[0] for batch in waiting},
        batch_id__in={batch.key[1] for batch in waiting},
    ).defer("payload")
    known = {(row.device_id, row.batch_id): row for row in rows}
    for batch in waiting:
        row = known.get(batch.key)
        if row is not None:
            batch.outcome = row.answer()


def _unusable(batch: _Batch) -> MalformedBatchError:
    reasons = [{"index": i, "reason": reason} for i, reason, _ in _checked(batch).rejected]
    return MalformedBatchError(
        f"None of {len(_raw(batch).records)} records is usable.",
        details={"rejected": reasons[:REASONS_ANSWERED]},
    )


def _label(batches: Sequence[_Batch], received_at: datetime) -> None:
    """Notes on which side of a rollout each device is."""
    if not batches:
        return
    models = [(batch, {key[2] for key in _checked(batch).columns.releases}) for batch in batches]
    cohorts = cohorts_of_devices(
        [(batch.delivery.device, batch.models[pk]) for batch, found in models for pk in found],
        received_at,
    )
    for batch, found in models:
        device = batch.delivery.device.pk
        batch.cohorts = {pk: cohorts[device, batch.models[pk]] for pk in found}


def _store(batches: Sequence[_Batch], received_at: datetime) -> None:
    """Commits `batches` together; where one of them cannot be, each alone."""
    if not batches:
        return
    try:
        with transaction.atomic():
            if any(_close_replaced(batch, received_at) for batch in batches):
                for batch in batches:
                    duplicates = len(_raw(batch).records)
                    batch.outcome = {"accepted": 0, "duplicates": duplicates, "rejected": []}
                return
            _insert(batches, received_at)
            _recall(_open(batches))
    except (OperationalError, InterfaceError) as error:
        # The store is away, which is nobody's fault.
        for batch in batches:
            batch.outcome = error
    except DatabaseError as error:
        if len(batches) == 1:
            batches[0].outcome = error
            return
        logger.warning("%d batches are stored one by one", len(batches), exc_info=True)
        for batch in batches:
            batch.outcome = None
            _store([batch], received_at)
    else:
        for batch in batches:
            rejected = len(_checked(batch).rejected)
            if rejected:
                logger.warning(
                    "device %s: %d records rejected", batch.delivery.device.device_id, rejected
                )


def _insert(batches: Sequence[_Batch], received_at: datetime) -> None:
    """Stores those that are new, which have an outcome then."""
    # Always in the same order, so that two groups cannot wait for each other in a circle.
    batches = sorted(batches, key=lambda batch: batch.key)
    rows = [_row(batch, received_at) for batch in batches]
    stored = insert_new(rows)
    quarantined = []
    for batch, row in zip(batches, rows, strict=True):
        # Of two with one id in a group, the first is stored.
        pk = stored.pop(batch.key, None)
        if pk is None:
            continue
        batch.outcome = row.answer()
        quarantined += [
            RejectedRecord(batch_id=pk, index=index, reason=reason, raw=raw)
            for index, reason, raw in _checked(batch).rejected[:REJECTED_KEPT]
        ]
    if quarantined:
        RejectedRecord.objects.bulk_create(quarantined)


def _row(batch: _Batch, received_at: datetime) -> InboxBatch:
    checked = _checked(batch)
    return InboxBatch(
        device=batch.delivery.device,
        batch_id=_raw(batch).batch_id,
        received_at=received_at,
        payload=pack_columns(checked.columns, batch.cohorts),
        accepted=len(checked.columns),
        duplicates=checked.duplicates,
        rejected=[{"index": index, "reason": reason} for index, reason, _ in checked.rejected],
    )


def _close_replaced(batch: _Batch, now: datetime) -> bool:
    """True when a batch that this one replaces is stored; else none of them will be.

    The unique constraint makes the insertion wait for one that is just arriving, so exactly one of
    the two batches finds the other.
    """
    replaces, device = _raw(batch).replaces, batch.delivery.device
    if not replaces:
        return False
    closed = [
        InboxBatch(
            device=device,
            batch_id=batch_id,
            received_at=now,
            payload=b"",
            accepted=0,
            state=InboxBatch.State.DONE,
            problem="Closed: its records came in other batches.",
        )
        for batch_id in dict.fromkeys(replaces)
    ]
    InboxBatch.objects.bulk_create(closed, ignore_conflicts=True)
    # A stored batch has at least one record, a closed one none.
    return InboxBatch.objects.filter(device=device, batch_id__in=replaces, accepted__gt=0).exists()
