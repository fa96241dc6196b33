"""A processor module beside the model: checked, named in the manifest and signed like the model."""

import base64
import hashlib
import io
import json
from pathlib import Path

import pytest

from registry.exceptions import ManifestInvalidError
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


def upload(processor: bytes, model: bytes = IMAGE_MODEL, labels: list[str] = LABELS):  # type: ignore[no-untyped-def]
    version = upload_version(
        model_slug=make_model(labels=labels).slug,
        version="1.0.0",
        files=[
            ("model.onnx", io.BytesIO(model), None),
            ("classify.wasm", io.BytesIO(processor), None),
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
