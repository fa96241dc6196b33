"""Takes what a device sent: acknowledged means stored, stored means counted once."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from fleet.models import Device
from fleet.selectors import cohort_of_device
from ingest import records
from ingest.columns import pack_columns
from ingest.exceptions import ForeignDeviceError, MalformedBatchError
from ingest.models import InboxBatch, RejectedRecord
from ingest.selectors.releases import known_releases
from registry.models import Model
from registry.plain_text import is_storable

logger = logging.getLogger(__name__)
REASONS_ANSWERED = 20
REJECTED_KEPT = 50
"""Rejected records of one batch that are kept whole for people; the answer names all of them."""


def receive_batch(
    *, device: Device, body: bytes, encoding: str, received_at: datetime
) -> dict[str, Any]:
    """The answer to one intake request: counts, and index and reason of each bad record.

    A batch id seen before gets the first answer again and stores nothing. A batch that replaces
    others, which the device could get no good answer to, stores nothing when one of them is here;
    else those ids are closed, so that one that arrives late stores nothing either. The row is
    committed when this returns.

    Raises:
        BatchTooLargeError, UnsupportedEncodingError: see `records.inflate`.
        MalformedBatchError: not a batch, or not one usable record; nothing is stored.
        ForeignDeviceError: the body names another device.
    """
    plain = records.inflate(body, encoding, settings.AVIARY_INGEST_MAX_BYTES)
    batch = records.decode_batch(plain, settings.AVIARY_INGEST_MAX_RECORDS)
    if batch.device_id is not None and batch.device_id != device.device_id:
        raise ForeignDeviceError(
            f"The body names {batch.device_id!r}; the credential is that of {device.device_id!r}."
        )
    repeated = _find_batch(device, batch.batch_id)
    if repeated is not None:
        return repeated.answer()
    names = {
        record.model_version
        for record in batch.records
        if isinstance(record, records.Record) and is_storable(record.model_version)
    }
    releases = known_releases(device, names)
    checked = records.check_batch(batch, releases, received_at.timestamp())
    rejected = [{"index": index, "reason": reason} for index, reason, _ in checked.rejected]
    if not len(checked.columns):
        raise MalformedBatchError(
            f"None of {len(batch.records)} records is usable.",
            details={"rejected": rejected[:REASONS_ANSWERED]},
        )
    models = Model.objects.in_bulk({key[2] for key in checked.columns.releases})
    cohorts = {
        model_id: cohort_of_device(device, model, received_at) for model_id, model in models.items()
    }
    row = InboxBatch(
        device=device,
        batch_id=batch.batch_id,
        received_at=received_at,
        payload=pack_columns(checked.columns, cohorts),
        accepted=len(checked.columns),
        duplicates=checked.duplicates,
        rejected=rejected,
    )
    try:
        with transaction.atomic():
            if batch.replaces and _close_replaced(device, batch.replaces, received_at):
                return {"accepted": 0, "duplicates": len(batch.records), "rejected": []}
            row.save(force_insert=True)
            RejectedRecord.objects.bulk_create(
                RejectedRecord(batch=row, index=index, reason=reason, raw=raw)
                for index, reason, raw in checked.rejected[:REJECTED_KEPT]
            )
    except IntegrityError:
        # The same batch arrived twice at the same moment and the other one was first.
        repeated = _find_batch(device, batch.batch_id)
        if repeated is None:
            raise
        return repeated.answer()
    if rejected:
        logger.warning("device %s: %d records rejected", device.device_id, len(rejected))
    return row.answer()


def _close_replaced(device: Device, batch_ids: Sequence[str], now: datetime) -> bool:
    """True when one of `batch_ids` is stored; else none of them will be.

    The unique constraint makes the insertion wait for one that is just arriving, so exactly one of
    the two batches finds the other.
    """
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
        for batch_id in dict.fromkeys(batch_ids)
    ]
    InboxBatch.objects.bulk_create(closed, ignore_conflicts=True)
    # A stored batch has at least one record, a closed one none.
    return InboxBatch.objects.filter(device=device, batch_id__in=batch_ids, accepted__gt=0).exists()


def _find_batch(device: Device, batch_id: str) -> InboxBatch | None:
    return InboxBatch.objects.defer("payload").filter(device=device, batch_id=batch_id).first()
