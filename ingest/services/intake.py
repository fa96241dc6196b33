"""Takes what a device sent: acknowledged means stored, stored means counted once."""

import logging
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

logger = logging.getLogger(__name__)
REASONS_ANSWERED = 20


def receive_batch(
    *, device: Device, body: bytes, encoding: str, received_at: datetime
) -> dict[str, Any]:
    """The answer to one intake request: counts, and index and reason of each bad record.

    A batch id seen before gets the first answer again and stores nothing. The row is committed
    when this returns.

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
    names = {record.model_version for record, _, _ in batch.records if record is not None}
    releases = known_releases(device, names)
    checked = records.check_batch(batch, releases, received_at.timestamp())
    rejected = [{"index": index, "reason": reason[:200]} for index, reason, _ in checked.rejected]
    if not checked.accepted:
        raise MalformedBatchError(
            f"None of {len(batch.records)} records is usable.",
            details={"rejected": rejected[:REASONS_ANSWERED]},
        )
    models = Model.objects.in_bulk({item.release.model_id for item in checked.accepted})
    cohorts = {
        model_id: cohort_of_device(device, model, received_at) for model_id, model in models.items()
    }
    row = InboxBatch(
        device=device,
        batch_id=batch.batch_id,
        received_at=received_at,
        payload=pack_columns(checked.accepted, cohorts),
        accepted=len(checked.accepted),
        duplicates=checked.duplicates,
        rejected=rejected,
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            RejectedRecord.objects.bulk_create(
                RejectedRecord(batch=row, index=index, reason=reason[:200], raw=str(raw)[:2000])
                for index, reason, raw in checked.rejected
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


def _find_batch(device: Device, batch_id: str) -> InboxBatch | None:
    return InboxBatch.objects.defer("payload").filter(device=device, batch_id=batch_id).first()
