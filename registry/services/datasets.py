"""Data sets: npz files of preprocessed inputs, checked before they are named."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from registry.exceptions import ConflictError, InvalidFieldError
from registry.models import DataSet, DataSetKind
from registry.selectors import get_model
from registry.services.audit import record_event
from registry.services.blobs import Readable, discard_blob, store_blob
from registry.services.inspection import inspect_dataset


def register_dataset(
    *,
    model_slug: str,
    name: str,
    kind: str,
    stream: Readable,
    actor: str,
    expected_sha256: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> DataSet:
    """The data set; the same bytes under the same name are the one that is there.

    Args:
        stream: an npz with `x` of shape (rows, ...), or an array named after each input of a model
            with several, and, if known, integers `y` of shape (rows,).
        provenance: what it was made from, in JSON; None for an upload.

    Raises:
        DataSetInvalidError, InvalidFieldError, ConflictError, DigestMismatchError: nothing is left.
    """
    model = get_model(model_slug)
    if kind not in DataSetKind.values:
        raise InvalidFieldError(f"kind is one of {DataSetKind.values}", {"kind": kind})
    blob = store_blob(
        stream=stream, expected_sha256=expected_sha256, max_bytes=settings.AVIARY_MAX_UPLOAD_BYTES
    )
    try:
        known = DataSet.objects.filter(model=model, name=name).first()
        if known is not None:
            if (known.blob_id, known.kind) == (blob.pk, kind):
                return known
            raise ConflictError(
                f"{model_slug} has a data set {name!r} with other content",
                {"name": name, "sha256": known.blob_id},
            )
        described = inspect_dataset(sha256=blob.pk, classes=model.classes)
        dataset = DataSet(
            model=model,
            name=name,
            kind=kind,
            blob=blob,
            rows=described["rows"],
            arrays=described["arrays"],
            provenance=dict(provenance or {}),
            created_by=actor,
        )
        dataset.full_clean()
        with transaction.atomic():
            dataset.save(force_insert=True)
            record_event(
                actor=actor,
                action="dataset.registered",
                obj=dataset,
                summary=f"Data set {name} of {model_slug} with {dataset.rows} rows was registered",
                details={
                    "kind": kind,
                    "sha256": blob.pk,
                    "rows": dataset.rows,
                    "provenance": dataset.provenance,
                },
            )
        return dataset
    except ValidationError as error:
        discard_blob(sha256=blob.pk)
        raise InvalidFieldError("The data set has invalid fields", error.message_dict) from error
    except IntegrityError as error:
        discard_blob(sha256=blob.pk)
        raise ConflictError(f"{model_slug} has a data set {name!r} already") from error
    except Exception:
        discard_blob(sha256=blob.pk)
        raise
