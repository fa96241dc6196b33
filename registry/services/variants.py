"""Variants: ways to run a version, each signed as a whole."""

import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction

from registry.exceptions import (
    ConflictError,
    InvalidFieldError,
    ModelFileInvalidError,
    StateError,
)
from registry.keys import sign_document
from registry.manifest import (
    MANIFEST_TYPE,
    build_manifest,
    canonical_bytes,
    complete_golden,
    complete_requirements,
    manifest_digest,
)
from registry.models import Blob, FileRole, Variant, VariantFile, Version, VersionState
from registry.services.audit import record_event
from registry.services.baselines import activate_baseline
from registry.services.blobs import store_blob
from registry.services.contracts import contract_of_variants, manifest_contract
from registry.services.inspection import GOLDEN_PATH, FileSpec, Inspection, inspect_files

logger = logging.getLogger(__name__)

BASELINE_PATH = "baseline.json"
#: Files that are added here when the caller brings none.
_ADDED = frozenset({GOLDEN_PATH, BASELINE_PATH})
_OPEN_STATES = (VersionState.READY, VersionState.APPROVED, VersionState.DEPRECATED)


def attach_variant(
    *,
    version: Version,
    name: str,
    files: Sequence[tuple[str, str, str]],
    actor: str,
    requirements: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    derived_from: Variant | None = None,
    is_promotable: bool = True,
    golden_tolerance: Mapping[str, float] | None = None,
) -> Variant:
    """A signed variant of a version that is ready; the same call again gives the same variant.

    The files are looked at in the limited child first, as an upload's are; golden vectors are the
    variant's own outputs on the inputs of the variant it is derived from.

    Args:
        files: path, role and SHA-256 of stored blobs; exactly one of the role `model`.
        golden_tolerance: `atol`, `rtol`, `min_fraction` of a device's self-test; None for the
            defaults, which suit float models.

    Raises:
        StateError, ConflictError, InvalidFieldError, ManifestInvalidError, ModelFileInvalidError
    """
    if version.state not in _OPEN_STATES:
        raise StateError(
            f"Expected a version that is ready; {version} is {version.state}",
            {"state": version.state},
        )
    specs = [FileSpec(*file) for file in files]
    complete = complete_requirements(requirements or {})
    known = version.variants.filter(name=name).first()
    if known is not None:
        have = set(known.files.exclude(path__in=_ADDED).values_list("path", "role", "blob_id"))
        wanted = {(f.path, f.role, f.sha256) for f in specs if f.path not in _ADDED}
        if have == wanted:
            return known
        raise ConflictError(f"{version} has a variant {name!r} already", {"variant": name})
    _check_blobs(specs)
    inspection = inspect_files(
        model=version.model,
        files=specs,
        contract_given=contract_of_variants(version),
        dataset_sha256=version.dataset.blob_id if version.dataset else None,
        golden_inputs_sha256=_golden_of(derived_from or version.variants.first()),
    )
    if inspection.question:
        raise ModelFileInvalidError(inspection.question)
    _check_same_interface(version.signature, inspection.signature)
    try:
        with transaction.atomic():
            version = Version.objects.select_for_update().get(pk=version.pk)
            if version.state not in _OPEN_STATES:
                raise StateError(f"{version} became {version.state} meanwhile")
            variant = Variant.objects.create(
                version=version,
                name=name,
                requirements=complete,
                metrics=dict(metrics or {}),
                provenance=dict(provenance or {}),
                derived_from=derived_from,
                is_promotable=is_promotable,
            )
            VariantFile.objects.bulk_create(
                VariantFile(variant=variant, path=f.path, role=f.role, blob_id=f.sha256)
                for f in specs
            )
            finish_variant(
                variant=variant,
                inspection=inspection,
                golden_tolerance=golden_tolerance,
                actor=actor,
            )
            record_event(
                actor=actor,
                action="variant.attached",
                obj=variant,
                summary=f"Variant {name} was attached to {version}",
                details={
                    "manifest_sha256": variant.manifest_sha256,
                    "is_promotable": is_promotable,
                    "derived_from": derived_from.name if derived_from else None,
                },
            )
    except IntegrityError as error:
        raise ConflictError(f"{version} has a variant {name!r} already") from error
    return variant


def finish_variant(
    *,
    variant: Variant,
    inspection: Inspection,
    golden_tolerance: Mapping[str, float] | None,
    actor: str,
) -> None:
    """Adds golden vectors and baseline, then builds and signs the manifest.

    Runs in the caller's transaction; the variant's files but the golden one exist already.
    """
    version = variant.version
    golden_file = variant.files.filter(path=GOLDEN_PATH, role=FileRole.GOLDEN).first()
    if golden_file is None and inspection.golden is not None:
        golden_file = VariantFile.objects.create(
            variant=variant, path=GOLDEN_PATH, role=FileRole.GOLDEN, blob=inspection.golden
        )
    baseline = None
    if inspection.profile is not None:
        baseline = activate_baseline(
            version=version,
            variant=variant,
            profile=inspection.profile,
            source=f"dataset:{version.dataset.name}" if version.dataset else "dataset",
            reason="Computed at upload",
            actor=actor,
        )
        _add_baseline_file(variant, inspection.profile)
    manifest = build_manifest(
        model=version.model.slug,
        version=version.version,
        sequence=version.sequence,
        variant=variant.name,
        task=version.model.task,
        files=[
            {
                "path": file.path,
                "role": file.role,
                "sha256": file.blob_id,
                "size_bytes": file.blob.size_bytes,
            }
            for file in variant.files.select_related("blob")
        ],
        inputs=inspection.signature["inputs"],
        outputs=inspection.signature["outputs"],
        opset=inspection.signature["opset"],
        labels=version.model.labels,
        preprocessing=version.preprocessing,
        postprocessing=version.postprocessing,
        contract=manifest_contract(version.contract, inspection.contract),
        requirements=variant.requirements,
        baseline_sha256=baseline.sha256 if baseline else None,
        golden=complete_golden(golden_file.path, golden_tolerance) if golden_file else None,
    )
    payload = canonical_bytes(manifest)
    variant.manifest_sha256 = manifest_digest(payload)
    variant.envelope = sign_document("manifest", payload, MANIFEST_TYPE)
    variant.save(update_fields=["manifest_sha256", "envelope"])
    logger.info("Signed manifest %s of %s", variant.manifest_sha256, variant)


def _add_baseline_file(variant: Variant, profile: Mapping[str, Any]) -> None:
    """The profile as a file, for a device to judge its own drift by; its digest is that of the
    baseline in the manifest."""
    if variant.files.filter(path=BASELINE_PATH).exclude(role=FileRole.BASELINE).exists():
        return
    # One copied from the variant that this one was made of describes that one.
    variant.files.filter(role=FileRole.BASELINE).delete()
    content = canonical_bytes(profile)
    blob = store_blob(stream=io.BytesIO(content), max_bytes=len(content))
    VariantFile.objects.create(
        variant=variant, path=BASELINE_PATH, role=FileRole.BASELINE, blob=blob
    )


def _golden_of(variant: Variant | None) -> str | None:
    if variant is None:
        return None
    file = variant.files.filter(path=GOLDEN_PATH, role=FileRole.GOLDEN).first()
    return file.blob_id if file else None


def _check_blobs(files: Sequence[FileSpec]) -> None:
    if sum(file.role == FileRole.MODEL for file in files) != 1:
        raise InvalidFieldError("Exactly one file has the role model")
    wanted = {file.sha256 for file in files}
    missing = wanted - set(Blob.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    if missing:
        raise InvalidFieldError("There are no such blobs", {"sha256": sorted(missing)})


def _check_same_interface(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
    """A variant can stand in for another only with the same inputs and outputs."""
    for side in ("inputs", "outputs"):
        want = [(item["name"], item["dtype"], len(item["shape"])) for item in expected[side]]
        got = [(item["name"], item["dtype"], len(item["shape"])) for item in actual[side]]
        if want != got:
            raise ModelFileInvalidError(
                f"The variant's {side} differ from the version's: expected {want}, got {got}"
            )
