"""Versions: uploaded, validated, moved; variants: attached and signed."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import selectors
from registry.exceptions import (
    AviaryError,
    ConflictError,
    DigestMismatchError,
    InvalidFieldError,
    ManifestInvalidError,
    ModelFileInvalidError,
    NotFoundError,
    StateError,
)
from registry.keys import trust_keys
from registry.manifest import MANIFEST_TYPE, check_manifest, manifest_digest
from registry.models import AuditEvent, Blob, Version, VersionState
from registry.services.aliases import move_alias
from registry.services.blobs import open_blob, store_blob
from registry.services.variants import attach_variant
from registry.services.versions import (
    edit_version,
    transition_version,
    validate_version,
    versions_to_validate,
)
from registry.signing import verify_envelope
from registry.states import (
    CORRECTABLE_STATES,
    FROZEN_STATES,
    TERMINAL_STATES,
    TRANSITIONS,
    can_move,
)
from tests.factories.registry import (
    make_dataset,
    make_model,
    make_onnx,
    make_upload,
    make_version,
)
from tests.registry.conftest import stored_files


@pytest.mark.django_db
def test_a_validated_version_has_a_manifest_that_devices_can_verify() -> None:
    model = make_model()
    version = make_version(model, dataset=make_dataset(model), state="ready")
    variant = version.variants.get()
    payload = verify_envelope(variant.envelope, trust_keys(), MANIFEST_TYPE, role="manifest")
    manifest = json.loads(payload)
    check_manifest(manifest)
    assert manifest_digest(payload) == variant.manifest_sha256
    assert (manifest["version"], manifest["sequence"]) == (version.version, 1)
    assert manifest["labels"] == ["a", "b", "c"]
    assert manifest["postprocessing"] == {"scores_output": "logits", "activation": "softmax"}
    assert manifest["inputs"] == [{"name": "input", "dtype": "float32", "shape": ["batch", 4]}]
    baseline = selectors.active_baseline(variant)
    assert baseline is not None and manifest["baseline_sha256"] == baseline.sha256
    (file,) = [row for row in manifest["files"] if row["role"] == "baseline"]
    assert (file["path"], file["sha256"]) == ("baseline.json", baseline.sha256)
    assert baseline.profile["accuracy"] == version.metrics["accuracy"] == 1.0
    assert baseline.profile["n"] == 64
    assert sum(baseline.profile["confidence"]["counts"]) == 64
    assert base64.b64decode(variant.envelope["payload"]) == payload


@pytest.mark.django_db
def test_golden_vectors_are_what_the_model_answers() -> None:
    model = make_model()
    version = make_version(model, dataset=make_dataset(model), data=make_onnx(scale=2.0))
    golden = version.variants.get().files.get(role="golden")
    with open_blob(golden.blob_id) as handle:
        arrays = np.load(io.BytesIO(handle.read()), allow_pickle=False)
    assert arrays["output_logits"] == pytest.approx(arrays["input_input"][:, :3] * 2)
    # Its data set's labels come along, so that devices can tell right answers from wrong ones.
    assert len(arrays["input_input"]) == 64
    assert (arrays["truth"] == arrays["output_logits"].argmax(axis=1)).all()


@pytest.mark.django_db
def test_sequences_rise_and_a_version_name_is_taken_once() -> None:
    model = make_model()
    first, second = make_upload(model, version="1.0"), make_upload(model, version="0.9")
    assert (first.sequence, second.sequence) == (1, 2)
    with pytest.raises(ConflictError):
        make_upload(model, version="1.0")


def upload_with(**over: Any) -> Any:
    return lambda model: make_upload(model, **over)


def two_files(first: str, second: str) -> list[Any]:
    return [(first, io.BytesIO(make_onnx()), None), (second, io.BytesIO(b"x"), None)]


BAD_UPLOADS: dict[str, tuple[Any, type[AviaryError]]] = {
    "unknown model": (upload_with(model_slug="nobody"), NotFoundError),
    "version name with a slash": (upload_with(version="1/0"), InvalidFieldError),
    "wrong digest": (
        upload_with(files=[("model.onnx", io.BytesIO(make_onnx()), "0" * 64)]),
        DigestMismatchError,
    ),
    "wrong digest of the second file": (
        upload_with(
            files=[
                ("m.onnx", io.BytesIO(make_onnx()), None),
                ("w.bin", io.BytesIO(b"x"), "0" * 64),
            ]
        ),
        DigestMismatchError,
    ),
    "path leaves the folder": (
        upload_with(files=two_files("m.onnx", "../w")),
        ManifestInvalidError,
    ),
    "the same path twice": (upload_with(files=two_files("m.onnx", "m.onnx")), InvalidFieldError),
    "no model among the files": (upload_with(files=two_files("a", "b")), ManifestInvalidError),
    "two models": (upload_with(files=two_files("a.onnx", "b.onnx")), ManifestInvalidError),
    "no file": (upload_with(files=[]), InvalidFieldError),
    "unknown metadata": (upload_with(metadata={"stage": "x"}), InvalidFieldError),
    "metadata of the wrong kind": (upload_with(metadata={"metrics": 1}), InvalidFieldError),
    "unknown requirement": (
        upload_with(metadata={"requirements": {"gpu": 1}}),
        ManifestInvalidError,
    ),
    "unknown parent": (upload_with(metadata={"parent": "0.0"}), InvalidFieldError),
}


@pytest.mark.django_db
@pytest.mark.parametrize("case", BAD_UPLOADS)
def test_a_bad_upload_leaves_nothing(case: str, home: Path) -> None:
    act, error = BAD_UPLOADS[case]
    model = make_model()
    events = AuditEvent.objects.count()
    with pytest.raises(error):
        act(model)
    model.refresh_from_db()
    assert model.next_sequence == 1
    assert not Version.objects.exists()
    assert not Blob.objects.exists()
    assert stored_files(home) == []
    assert AuditEvent.objects.count() == events


@pytest.mark.django_db
def test_validation_is_claimed_by_one_caller() -> None:
    version = make_upload()
    assert versions_to_validate() == [version.pk]
    Version.objects.filter(pk=version.pk).update(validation_started_at=version.created_at)
    assert versions_to_validate() == []
    assert validate_version(version_id=version.pk).state == VersionState.VALIDATING


@pytest.mark.django_db
def test_validating_twice_changes_nothing() -> None:
    version = make_version(state="ready")
    manifest = version.variants.get().manifest_sha256
    assert validate_version(version_id=version.pk).state == VersionState.READY
    assert version.variants.get().manifest_sha256 == manifest


@pytest.mark.django_db
def test_people_move_versions_along_the_table_only() -> None:
    version = make_version(state="ready")

    def move(to: str, reason: str = "") -> str:
        return str(
            transition_version(version_id=version.pk, to=to, actor="ada", reason=reason).state
        )

    with pytest.raises(StateError):
        move("deprecated")
    with pytest.raises(InvalidFieldError):
        move("ready")
    assert move("approved") == "approved"
    events = AuditEvent.objects.count()
    assert move("approved") == "approved"
    assert AuditEvent.objects.count() == events
    with pytest.raises(InvalidFieldError):
        move("yanked")
    assert move("yanked", "leaks memory") == "yanked"
    with pytest.raises(StateError):
        move("approved")
    assert AuditEvent.objects.latest("pk").details["reason"] == "leaks memory"
    assert not Version.objects.deployable().exists()


@given(st.lists(st.sampled_from(list(VersionState)), max_size=12))
def test_no_walk_leaves_a_terminal_state_or_thaws_a_released_version(targets: list[str]) -> None:
    state: str = VersionState.DRAFT
    for to in targets:
        if can_move(state, to):
            assert state not in TERMINAL_STATES
            assert to in FROZEN_STATES or state not in FROZEN_STATES - CORRECTABLE_STATES
            state = to
    assert state in TRANSITIONS


@pytest.mark.django_db
def test_notes_and_tags_can_be_edited_and_are_audited() -> None:
    version = make_version()
    edit_version(version_id=version.pk, actor="ada", notes="better", tags=["x"])
    version.refresh_from_db()
    assert (version.notes, version.tags) == ("better", ["x"])
    assert AuditEvent.objects.latest("pk").action == "version.edited"


@pytest.mark.django_db
def test_a_variant_is_attached_signed_and_the_same_call_gives_the_same() -> None:
    model = make_model()
    version = make_version(model, dataset=make_dataset(model))
    source = version.variants.get()
    blob = store_blob(stream=io.BytesIO(make_onnx(scale=9.0)), max_bytes=10**6)

    def attach(name: str = "int8", digest: str = blob.pk, **over: Any) -> Any:
        return attach_variant(
            version=version,
            name=name,
            files=[("model.onnx", "model", digest)],
            actor="ada",
            derived_from=source,
            golden_tolerance={"atol": 0.5, "min_fraction": 0.9},
            **over,
        )

    variant = attach()
    manifest = json.loads(base64.b64decode(variant.envelope["payload"]))
    assert manifest["golden"] == {
        "path": "golden.npz",
        "atol": 0.5,
        "rtol": 0.001,
        "min_fraction": 0.9,
    }
    assert attach() == variant
    with pytest.raises(ConflictError):
        attach(digest=store_blob(stream=io.BytesIO(make_onnx(scale=8)), max_bytes=10**6).pk)
    with pytest.raises(InvalidFieldError):
        attach(name="other", digest="0" * 64)
    wider = store_blob(stream=io.BytesIO(make_onnx(features=5)), max_bytes=10**6)
    with pytest.raises(ModelFileInvalidError):
        attach(name="wider", digest=wider.pk)
    transition_version(version_id=version.pk, to="yanked", actor="ada", reason="bad")
    version.refresh_from_db()
    with pytest.raises(StateError):
        attach(name="late")


@pytest.mark.django_db
def test_an_alias_remembers_where_it_was() -> None:
    model = make_model()
    first, second = make_version(model), make_version(model)
    move_alias(version=first, name="champion", actor="ada")
    alias = move_alias(version=second, name="champion", actor="ada", reason="better")
    early, late = alias.moves.order_by("pk")
    assert (early.to_version, late.to_version) == (first, second)
    assert early.at < late.at
    with pytest.raises(StateError):
        move_alias(version=make_upload(model), name="champion", actor="ada")
