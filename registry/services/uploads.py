"""Taking in the files of a new version: everything is stored and named, or nothing is."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from registry.exceptions import ConflictError, InvalidFieldError, ManifestInvalidError
from registry.manifest import check_path, complete_golden, complete_requirements, is_sha256
from registry.models import (
    Blob,
    DataSet,
    FileRole,
    Model,
    Variant,
    VariantFile,
    Version,
    VersionState,
)
from registry.selectors import get_model
from registry.services.audit import record_event
from registry.services.blobs import Readable, discard_blob, store_blob
from registry.services.contracts import given_contract
from registry.services.inspection import GOLDEN_PATH, PROCESSOR_GOLDEN_PATH, FileSpec

DEFAULT_VARIANT = "fp32"
MAX_FILES = 64
_TEXTS = ("notes", "parent", "variant", "task")
_OBJECTS = (
    "outputs",
    "source",
    "metrics",
    "preprocessing",
    "postprocessing",
    "requirements",
    "roles",
    "golden",
)
_UPLOAD_ROLES = (FileRole.MODEL, FileRole.EXTERNAL_DATA, FileRole.LABELS, FileRole.PROCESSOR)


def upload_version(
    *,
    model_slug: str,
    version: str,
    files: Sequence[tuple[str, Readable, str | None]] = (),
    stored: Mapping[str, str] | None = None,
    actor: str,
    dataset: DataSet | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Version:
    """A version in the state validating; `validate_version` makes it ready or rejected.

    Args:
        files: path, bytes, and the SHA-256 they must have (None: whatever arrives). A lone file is
            the model; of several, the one that ends in `.onnx` is, and one that ends in `.wasm` is
            its processor, which `processor-golden.npz` may say what to expect of.
        stored: path to the SHA-256 of bytes that were uploaded before, beside or in place of files.
        metadata: `notes`, `tags`, `source`, `metrics`, `parent` (a version string), `variant`,
            `requirements`, `preprocessing`, `postprocessing`, `roles` (path to role), `golden`
            (tolerances), `task` and `outputs` (fields of the output contract); all optional.

    Raises:
        NotFoundError, ConflictError, InvalidFieldError, ManifestInvalidError, DigestMismatchError,
        UploadTooLargeError: nothing was kept.
    """
    model = get_model(model_slug)
    given = check_metadata(metadata or {})
    if dataset is not None and dataset.model_id != model.pk:
        raise InvalidFieldError("The data set belongs to another model", {"dataset": dataset.pk})
    if Version.objects.filter(model=model, version=version).exists():
        raise _taken(model_slug, version)
    there = dict(stored or {})
    roles = choose_roles([*(path for path, _, _ in files), *there], given.get("roles", {}))
    draft = Version(
        model=model,
        version=version,
        sequence=1,
        dataset=dataset,
        notes=given.get("notes", ""),
        tags=given.get("tags", []),
        source=given.get("source", {}),
        metrics=given.get("metrics", {}),
        preprocessing=given.get("preprocessing", {}),
        postprocessing=given.get("postprocessing", {}),
        contract_given=given_contract(given),
        parent=_find_parent(model, given.get("parent")),
        created_by=actor,
    )
    try:
        draft.clean_fields(exclude=["sequence"])
    except ValidationError as error:
        raise InvalidFieldError("The version has invalid fields", error.message_dict) from error
    arrived: list[FileSpec] = []
    try:
        left = settings.AVIARY_MAX_UPLOAD_BYTES
        known = [FileSpec(path, roles[path], _use_blob(digest)) for path, digest in there.items()]
        for path, stream, expected in files:
            blob = store_blob(stream=stream, expected_sha256=expected, max_bytes=left)
            arrived.append(FileSpec(path, roles[path], blob.pk))
            left -= blob.size_bytes
        try:
            return _create_version(draft, [*arrived, *known], given, actor)
        except IntegrityError as error:
            # Another upload of the same bytes failed meanwhile and took them away.
            raise ConflictError("A stored file was removed meanwhile; upload again") from error
    except BaseException:
        for file in arrived:
            discard_blob(sha256=file.sha256)
        raise


@transaction.atomic
def _create_version(
    draft: Version, files: Sequence[FileSpec], given: Mapping[str, Any], actor: str
) -> Version:
    # The model's row is the lock under which sequences are handed out.
    model = Model.objects.select_for_update().get(pk=draft.model_id)
    draft.sequence = model.next_sequence
    draft.state = VersionState.VALIDATING
    try:
        with transaction.atomic():
            draft.save(force_insert=True)
    except IntegrityError as error:
        raise _taken(model.slug, draft.version) from error
    model.next_sequence += 1
    model.save(update_fields=["next_sequence"])
    provenance: dict[str, Any] = {"kind": "upload", "actor": actor}
    if "golden" in given:
        provenance["golden_tolerance"] = dict(given["golden"])
    variant = Variant.objects.create(
        version=draft,
        name=given.get("variant", DEFAULT_VARIANT),
        requirements=complete_requirements(given.get("requirements", {})),
        provenance=provenance,
    )
    VariantFile.objects.bulk_create(
        VariantFile(variant=variant, path=f.path, role=f.role, blob_id=f.sha256) for f in files
    )
    record_event(
        actor=actor,
        action="version.uploaded",
        obj=draft,
        summary=f"{draft} was uploaded with {len(files)} file(s)",
        details={"files": {file.path: file.sha256 for file in files}},
    )
    return draft


def check_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata when every field is known and of its kind. Raises InvalidFieldError."""
    unknown = sorted(set(metadata) - {*_TEXTS, *_OBJECTS, "tags"})
    if unknown:
        raise InvalidFieldError(f"Unknown metadata: {', '.join(unknown)}", {"unknown": unknown})
    for field, kind in (*((f, str) for f in _TEXTS), *((f, dict) for f in _OBJECTS)):
        if field in metadata and not isinstance(metadata[field], kind):
            raise InvalidFieldError(
                f"metadata.{field} is {kind.__name__}; got {type(metadata[field]).__name__}"
            )
    tags = metadata.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidFieldError("metadata.tags is a list of texts")
    if "variant" in metadata and not 0 < len(metadata["variant"]) <= 64:
        raise InvalidFieldError("metadata.variant has 1 to 64 characters")
    complete_requirements(metadata.get("requirements", {}))
    complete_golden(GOLDEN_PATH, metadata.get("golden"))
    given_contract(metadata)
    return dict(metadata)


def choose_roles(paths: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """The role of each path: as given, else by its name. Raises when the set makes no variant."""
    if not 0 < len(paths) <= MAX_FILES:
        raise InvalidFieldError(f"Expected 1 to {MAX_FILES} files; got {len(paths)}")
    roles: dict[str, str] = {}
    for path in paths:
        check_path(path)
        if path in roles or path == GOLDEN_PATH:
            raise InvalidFieldError(f"The path {path!r} is taken", {"path": path})
        guess = FileRole.EXTERNAL_DATA
        if len(paths) == 1 or path.endswith(".onnx"):
            guess = FileRole.MODEL
        elif path.rsplit("/", 1)[-1].startswith("labels."):
            guess = FileRole.LABELS
        elif path.endswith(".wasm"):
            guess = FileRole.PROCESSOR
        elif path == PROCESSOR_GOLDEN_PATH:
            guess = FileRole.GOLDEN
        roles[path] = given.get(path, guess)
        is_golden = path == PROCESSOR_GOLDEN_PATH and roles[path] == FileRole.GOLDEN
        if roles[path] not in _UPLOAD_ROLES and not is_golden:
            raise InvalidFieldError(f"{path!r} cannot have the role {roles[path]!r}")
    models = [path for path, role in roles.items() if role == FileRole.MODEL]
    if len(models) != 1:
        raise ManifestInvalidError(
            f"Exactly one file has the role model; got {len(models)}", {"files": models}
        )
    processors = [path for path, role in roles.items() if role == FileRole.PROCESSOR]
    if len(processors) > 1:
        raise ManifestInvalidError(
            f"At most one file has the role processor; got {len(processors)}",
            {"files": processors},
        )
    if FileRole.GOLDEN in roles.values() and not processors:
        raise ManifestInvalidError(f"{PROCESSOR_GOLDEN_PATH!r} needs a processor beside it")
    return roles


def _use_blob(sha256: str) -> str:
    """The digest, when the storage has its bytes, which the collection of garbage now leaves."""
    if not is_sha256(sha256):
        raise InvalidFieldError("A digest is 64 lower-case hexadecimal digits")
    if not Blob.objects.filter(pk=sha256).update(stored_at=timezone.now()):
        raise InvalidFieldError(f"Nothing was uploaded with SHA-256 {sha256}", {"sha256": sha256})
    return sha256


def _find_parent(model: Model, version: str | None) -> Version | None:
    if not version:
        return None
    parent = Version.objects.filter(model=model, version=version).first()
    if parent is None:
        raise InvalidFieldError(f"There is no parent version {version!r}", {"parent": version})
    return parent


def _taken(model_slug: str, version: str) -> ConflictError:
    return ConflictError(
        f"{model_slug} has a version {version!r} already", {"model": model_slug, "version": version}
    )
