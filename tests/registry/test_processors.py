"""A processor module beside the model: checked, named in the manifest and signed like the model."""

import base64
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from registry.exceptions import InvalidFieldError, ManifestInvalidError
from registry.models import FileRole, VersionState
from registry.services.uploads import choose_roles
from registry.services.variants import attach_variant
from registry.services.versions import upload_version, validate_version
from tests.edge_agent.guests import make_guest
from tests.factories.registry import make_model, make_onnx

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
PROCESSOR = (ROOT / "edge_agent" / "guest" / "classify.wasm").read_bytes()
IMAGE_MODEL = (ROOT / "demo" / "data" / "digits-cnn-1.0.0.onnx").read_bytes()
LABELS = [str(digit) for digit in range(10)]


def upload(  # type: ignore[no-untyped-def]
    processor: bytes,
    model: bytes = IMAGE_MODEL,
    labels: list[str] = LABELS,
    golden: bytes | None = None,
):
    extra = [] if golden is None else [("processor-golden.npz", io.BytesIO(golden), None)]
    version = upload_version(
        model_slug=make_model(labels=labels).slug,
        version="1.0.0",
        files=[
            ("model.onnx", io.BytesIO(model), None),
            ("classify.wasm", io.BytesIO(processor), None),
            *extra,
        ],
        actor="tester",
    )
    return validate_version(version_id=version.pk)


def test_it_is_a_file_of_the_signed_manifest() -> None:
    variant = upload(PROCESSOR).variants.get()
    manifest = json.loads(base64.b64decode(variant.envelope["payload"]))
    (row,) = [file for file in manifest["files"] if file["role"] == "processor"]
    assert row == {
        "path": "classify.wasm",
        "role": "processor",
        "sha256": hashlib.sha256(PROCESSOR).hexdigest(),
        "size_bytes": len(PROCESSOR),
    }


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        (b"\x7fELF", "not a WebAssembly module"),
        (make_guest(imports='(import "wasi_snapshot_preview1" "fd_write" (func))'), "fd_write"),
        (PROCESSOR + bytes(1 << 20), "accepted: 1 to"),
    ],
)
def test_a_module_that_devices_would_refuse_rejects_the_version(
    processor: bytes, reason: str
) -> None:
    version = upload(processor)
    assert version.state == VersionState.REJECTED and reason in version.rejection_reason
    assert not version.variants.exists()


def test_a_model_that_takes_no_images_needs_no_processor() -> None:
    version = upload(PROCESSOR, make_onnx(), ["a", "b", "c"])
    assert version.state == VersionState.REJECTED
    assert "[batch, channels, height, width]" in version.rejection_reason


def test_a_smaller_variant_can_carry_the_same_processor() -> None:
    version = upload(PROCESSOR)
    source = version.variants.get()
    files = source.files.exclude(role=FileRole.GOLDEN).values_list("path", "role", "blob_id")
    smaller = attach_variant(
        version=version, name="smaller", files=list(files), actor="tester", derived_from=source
    )
    assert smaller.files.get(role=FileRole.PROCESSOR).blob_id == (
        hashlib.sha256(PROCESSOR).hexdigest()
    )


def test_a_file_that_ends_in_wasm_is_a_processor_and_there_is_one() -> None:
    roles = choose_roles(["a.onnx", "b.wasm"], {})
    assert roles == {"a.onnx": FileRole.MODEL, "b.wasm": FileRole.PROCESSOR}
    with pytest.raises(ManifestInvalidError, match="At most one"):
        choose_roles(["a.onnx", "b.wasm", "c.wasm"], {})


IMAGES = np.zeros((2, 9, 9, 1), np.uint8)


def make_golden(**arrays: object) -> bytes:
    return pack({"image": IMAGES, "class_id": np.array([1, 2]), **arrays})


def pack(arrays: dict[str, object]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def test_its_golden_images_are_signed_beside_the_models_own_vectors() -> None:
    version = upload(PROCESSOR, golden=make_golden(confidence=np.array([0.5, 1.0])))
    assert version.state == VersionState.READY, version.rejection_reason
    source = version.variants.get()
    manifest = json.loads(base64.b64decode(source.envelope["payload"]))
    golden = [file["path"] for file in manifest["files"] if file["role"] == "golden"]
    assert golden == ["golden.npz", "processor-golden.npz"]
    assert manifest["golden"]["path"] == "golden.npz"
    files = list(source.files.exclude(path="golden.npz").values_list("path", "role", "blob_id"))
    smaller = attach_variant(
        version=version, name="smaller", files=files, actor="tester", derived_from=source
    )
    assert smaller.files.filter(role=FileRole.GOLDEN).count() == 2
    again = attach_variant(
        version=version, name="smaller", files=files, actor="tester", derived_from=source
    )
    assert again.pk == smaller.pk


@pytest.mark.parametrize(
    ("golden", "reason"),
    [
        (b"no npz", "not a readable npz"),
        (pack({"image": IMAGES}), "Expected 'image' and 'class_id'"),
        (make_golden(more=np.zeros(2)), "Expected 'image' and 'class_id'"),
        (make_golden(image=IMAGES.astype(np.float32)), "'image' needs uint8"),
        (make_golden(image=np.zeros((2, 9, 9, 3), np.uint8)), "'image' needs uint8"),
        (make_golden(image=np.zeros((0, 9, 9, 1), np.uint8)), "'image' needs uint8"),
        (make_golden(image=np.zeros((65, 1, 1, 1), np.uint8)), "1 to 64 images"),
        (make_golden(class_id=np.array([1])), "'class_id' needs 2 integers"),
        (make_golden(class_id=np.array([1.0, 2.0])), "'class_id' needs 2 integers"),
        (make_golden(confidence=np.array([0.5, np.nan])), "'confidence' needs 2 numbers"),
    ],
)
def test_golden_images_of_another_form_reject_the_version(golden: bytes, reason: str) -> None:
    version = upload(PROCESSOR, golden=golden)
    assert version.state == VersionState.REJECTED and reason in version.rejection_reason


def test_golden_images_need_a_processor_and_their_own_name() -> None:
    with pytest.raises(ManifestInvalidError, match="needs a processor"):
        choose_roles(["a.onnx", "processor-golden.npz"], {})
    with pytest.raises(InvalidFieldError, match="cannot have the role"):
        choose_roles(["a.onnx", "b.wasm", "other.npz"], {"other.npz": FileRole.GOLDEN})
