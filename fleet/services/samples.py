"""Sampled inputs: who may send them, how long they stay, and the data sets made of them."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from fleet.exceptions import InvalidFleetInputError, PayloadTooLargeError, SamplingRefusedError
from fleet.models import CalibrationBuild, Device, SampleBatch
from fleet.models.samples import MIN_CALIBRATION_ROWS
from fleet.rules.assignment import matches
from fleet.services.deployments import check_selector
from fleet.services.devices import lock_device
from registry.exceptions import AviaryError, ConflictError, UnavailableError
from registry.models import DataSet, DataSetKind, Model
from registry.services.audit import record_event
from registry.services.blobs import discard_blob, store_blob
from registry.services.composition import MAX_PARTS, Part, compose_dataset

logger = logging.getLogger(__name__)

MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_DEVICE_BYTES = 64 * 1024 * 1024
KEPT = timedelta(days=30)
WITHDRAWN_GRACE = timedelta(days=1)
BUILD_TIMEOUT = timedelta(minutes=5)
MAX_TOTAL_BYTES = 512 * 1024 * 1024


@transaction.atomic
def set_sampling(*, device_id: str, is_allowed: bool, actor: str, reason: str = "") -> Device:
    """The device, allowed or forbidden to send sampled inputs.

    What a device sent that is no longer allowed is not used any more, and is removed after a day.
    """
    device = lock_device(device_id)
    if device.is_sampling_allowed == is_allowed:
        return device
    device.is_sampling_allowed = is_allowed
    device.sampling_changed_at = timezone.now()
    device.save(update_fields=["is_sampling_allowed", "sampling_changed_at", "updated_at"])
    record_event(
        actor=actor,
        action="device.sampling_allowed" if is_allowed else "device.sampling_forbidden",
        obj=device,
        summary=f"{device_id} may {'now' if is_allowed else 'no longer'} send sampled inputs",
        details={"reason": reason},
    )
    return device


def require_sampling(device: Device) -> None:
    """Returns when a person has allowed the device to send inputs.

    Raises:
        SamplingRefusedError: nobody has.
    """
    if not device.is_sampling_allowed:
        raise SamplingRefusedError("This device has not been allowed to send samples")


def receive_samples(
    *, device: Device, model_slug: str, body: bytes, manifest_sha256: str = ""
) -> tuple[SampleBatch, bool]:
    """The stored batch, and whether it is new; the same bytes again are the batch that is there.

    The arrays are not read here: they come from a device, and only the limited child that makes a
    data set opens them. A device that sends more than it may keeps its newest batches.

    Args:
        body: an npz of at most 16 MiB with the inputs, `class_id` and `confidence`.

    Raises:
        SamplingRefusedError: nobody has allowed this device to send inputs.
        InvalidFleetInputError, PayloadTooLargeError: nothing was stored.
    """
    require_sampling(device)
    if len(body) > MAX_BATCH_BYTES:
        raise PayloadTooLargeError(
            f"Samples are at most {MAX_BATCH_BYTES} bytes", {"max_bytes": MAX_BATCH_BYTES}
        )
    if body[:4] != b"PK\x03\x04":
        raise InvalidFleetInputError("Expected an npz file; the body does not start like one")
    if len(manifest_sha256) > 64:
        raise InvalidFleetInputError("manifest is the digest of a release: 64 hexadecimal digits")
    model = Model.objects.filter(slug=model_slug).first()
    if model is None:
        raise InvalidFleetInputError(f"There is no model {model_slug!r}", {"model": model_slug})
    blob = store_blob(stream=io.BytesIO(body), max_bytes=MAX_BATCH_BYTES)
    with transaction.atomic():
        # The device's lock: two batches at once must not both find room.
        lock_device(device.device_id)
        batch, is_new = SampleBatch.objects.get_or_create(
            device=device,
            model=model,
            blob=blob,
            defaults={"manifest_sha256": manifest_sha256, "size_bytes": blob.size_bytes},
        )
        excess = _excess_of(device)
        SampleBatch.objects.filter(pk__in=[pk for pk, _ in excess]).delete()
    for _, sha256 in excess:
        discard_blob(sha256=sha256)
    return batch, is_new


def _excess_of(device: Device) -> list[tuple[int, str]]:
    """The oldest batches beyond what one device may occupy."""
    total = 0
    excess = []
    rows = SampleBatch.objects.filter(device=device).order_by("-pk")
    for pk, sha256, size in rows.values_list("pk", "blob_id", "size_bytes"):
        total += size
        if total > MAX_DEVICE_BYTES:
            excess.append((pk, sha256))
    return excess


def prune_samples(*, now: datetime, is_dry_run: bool = False, limit: int = 500) -> int:
    """How many batches were removed, or would be: too old, or of a device that may no more."""
    withdrawn = Q(
        device__is_sampling_allowed=False, device__sampling_changed_at__lt=now - WITHDRAWN_GRACE
    )
    stale = SampleBatch.objects.filter(Q(received_at__lt=now - KEPT) | withdrawn)
    if is_dry_run:
        return stale.count()
    rows = list(stale.order_by("pk").values_list("pk", "blob_id")[:limit])
    SampleBatch.objects.filter(pk__in=[pk for pk, _ in rows]).delete()
    for _, sha256 in rows:
        discard_blob(sha256=sha256)
    return len(rows)


@transaction.atomic
def request_calibration(
    *,
    model: Model,
    name: str,
    actor: str,
    rows: int = 2000,
    selector: Mapping[str, Sequence[str]] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    keep_out: DataSet | None = None,
    seed: int = 0,
) -> CalibrationBuild:
    """A queued order for a calibration set; the edge starts it on commit.

    Args:
        rows: wanted, 1,000 to 200,000; the build fails when fewer than 1,000 are usable.
        selector: label to allowed values; only devices that match take part.
        keep_out: an evaluation set of the model; its rows stay out.

    Raises:
        InvalidFleetInputError: a value out of range, or no batch there at all.
        ConflictError: a data set of that name is there, or being made.
    """
    if keep_out is not None and keep_out.model_id != model.pk:
        raise InvalidFleetInputError(f"Data set {keep_out} belongs to another model")
    if since and until and since >= until:
        raise InvalidFleetInputError(f"since must be before until; got {since} and {until}")
    build = CalibrationBuild(
        model=model,
        name=name,
        rows=rows,
        selector=check_selector(selector or {}),
        since=since,
        until=until,
        keep_out=keep_out,
        seed=seed,
        created_by=actor,
    )
    try:
        build.full_clean(validate_constraints=False)
        DataSet(model=model, name=name).clean_fields(
            exclude=["model", "blob", "rows", "kind", "arrays"]
        )
    except ValidationError as error:
        raise InvalidFleetInputError(
            "The order has invalid fields", dict(error.message_dict)
        ) from error
    if DataSet.objects.filter(model=model, name=name).exists():
        raise ConflictError(f"{model.slug} has a data set {name!r} already", {"name": name})
    if not usable_batches(build).exists():
        raise InvalidFleetInputError(
            f"No sampled inputs of {model.slug} fit: allow devices to send them, and switch "
            "sampling on in their agents"
        )
    try:
        with transaction.atomic():
            build.save(force_insert=True)
    except IntegrityError as error:
        raise ConflictError(f"{model.slug}/{name} is being made already") from error
    record_event(
        actor=actor,
        action="calibration.ordered",
        obj=build,
        summary=f"Calibration set {name} of {model.slug} was ordered from fleet samples",
        details={"rows": rows, "selector": build.selector, "seed": seed},
    )
    return build


def build_calibration(*, build_id: int) -> CalibrationBuild:
    """The order, done or failed; one that somebody else works on or has ended is left alone."""
    now = timezone.now()
    # A conditional update claims the work: exactly one caller changes the row.
    stale = Q(state=CalibrationBuild.State.RUNNING, started_at__lt=now - BUILD_TIMEOUT)
    claimed = CalibrationBuild.objects.filter(
        Q(state=CalibrationBuild.State.QUEUED) | stale, pk=build_id
    ).update(state=CalibrationBuild.State.RUNNING, started_at=now)
    build = CalibrationBuild.objects.select_related("model", "keep_out").get(pk=build_id)
    if claimed != 1:
        return build
    ours = CalibrationBuild.objects.filter(pk=build_id, state="running", started_at=now)
    try:
        dataset = _compose(build)
    except UnavailableError as error:
        logger.warning("calibration set %s is queued again: %s", build, error)
        ours.update(state="queued", started_at=None)
    except (AviaryError, OSError) as error:
        logger.warning("calibration set %s failed: %s", build, error)
        ours.update(state="failed", error=str(error)[:2000], finished_at=timezone.now())
    else:
        ours.update(state="done", dataset=dataset, error="", finished_at=timezone.now())
        logger.info("calibration set %s has %d rows", build, dataset.rows)
    build.refresh_from_db()
    return build


def builds_to_start(*, now: datetime) -> list[int]:
    """Orders whose message was lost, or whose worker was."""
    lost = Q(state="queued", created_at__lt=now - timedelta(seconds=30))
    stale = Q(state="running", started_at__lt=now - BUILD_TIMEOUT)
    rows = CalibrationBuild.objects.filter(lost | stale).order_by("pk")
    return list(rows.values_list("pk", flat=True)[:20])


def usable_batches(build: CalibrationBuild) -> QuerySet[SampleBatch]:
    """Batches of devices that are still allowed to take part, before the selector is asked."""
    found = SampleBatch.objects.filter(
        model=build.model,
        device__is_sampling_allowed=True,
        device__status=Device.Status.ACCEPTED,
    )
    if build.since:
        found = found.filter(received_at__gte=build.since)
    if build.until:
        found = found.filter(received_at__lt=build.until)
    return found


def _compose(build: CalibrationBuild) -> DataSet:
    parts: list[Part] = []
    left = MAX_TOTAL_BYTES
    # The newest first: what the fleet meets now is what it will be calibrated for.
    rows = usable_batches(build).select_related("device").order_by("-pk")
    for batch in rows.iterator(chunk_size=500):
        if not matches(build.selector, batch.device.selectable):
            continue
        left -= batch.size_bytes
        if left < 0 or len(parts) == MAX_PARTS:
            break
        parts.append(Part(batch.blob_id, batch.device.device_id))
    if not parts:
        raise InvalidFleetInputError("No device that matches the selector has sent samples")
    return compose_dataset(
        model_slug=build.model.slug,
        name=build.name,
        kind=DataSetKind.CALIBRATION,
        parts=parts,
        rows=build.rows,
        min_rows=MIN_CALIBRATION_ROWS,
        seed=build.seed,
        actor=build.created_by,
        keep_out=build.keep_out,
        provenance={
            "source": "fleet samples",
            "build": build.pk,
            "selector": build.selector,
            "since": build.since.isoformat() if build.since else None,
            "until": build.until.isoformat() if build.until else None,
        },
    )
