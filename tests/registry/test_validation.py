"""Hostile and broken models: rejected with a reason, and nothing of them is left."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.models import Blob, Variant, VersionState
from registry.services.versions import validate_version
from servers.kept import Kept
from servers.patience import wait_for
from tests.factories.registry import (
    make_dataset,
    make_graph,
    make_model,
    make_npz,
    make_onnx,
    make_upload,
    make_weights,
)
from tests.registry.conftest import stored_files

pytestmark = pytest.mark.django_db


def graph_of(nodes: list[Any], tensors: list[Any] = (), opset: int = 17) -> bytes:  # type: ignore[assignment]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "n"])],
        list(tensors),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def huge_allocation() -> bytes:
    """A few bytes that ask for 32 GiB when they run."""
    shape = numpy_helper.from_array(np.array([2**33], dtype=np.int64), "shape")
    return graph_of(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["big"]),
            helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
            helper.make_node("Add", ["input", "sum"], ["logits"]),
        ],
        [shape],
    )


def newer_ir() -> bytes:
    model = make_graph()
    model.ir_version = 99
    return bytes(model.SerializeToString())


def hidden_external() -> bytes:
    """External data in a node's attribute rather than among the initializers."""
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return graph_of(
        [
            helper.make_node("Constant", [], ["c"], value=tensor),
            helper.make_node("Add", ["input", "c"], ["logits"]),
        ]
    )


HOSTILE: dict[str, tuple[bytes, str]] = {
    "not ONNX": (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "not an ONNX model"),
    "empty file": (b"", "0 bytes"),
    "truncated": (make_onnx()[:-20], "not an ONNX model"),
    "no graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph"),
    "external data outside the folder": (make_onnx(external="../../etc/passwd"), "not among"),
    "external data at an absolute path": (make_onnx(external="/etc/passwd"), "not among"),
    "external data that was not uploaded": (make_onnx(external="weights.bin"), "not among"),
    "external data in an attribute": (hidden_external(), "not among"),
    "unknown operator domain": (make_onnx(domain="com.evil"), "com.evil"),
    "unknown operator": (graph_of([helper.make_node("Nope", ["input"], ["logits"])]), "Nope"),
    "newer IR version": (newer_ir(), "IR version 99"),
    "opset from the past": (
        graph_of([helper.make_node("Relu", ["input"], ["logits"])], opset=3),
        "opset",
    ),
    "32 GiB at run time": (huge_allocation(), "does not run"),
    "more classes than labels": (make_onnx(classes=4), "label map has 3"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_model_that_breaks_a_rule_is_rejected_and_removed(case: str, home: Path) -> None:
    data, reason = HOSTILE[case]
    version = validate_version(version_id=make_upload(data=data).pk)
    assert version.state == VersionState.REJECTED
    assert version.rejection_reason
    assert reason in version.rejection_reason
    assert not Variant.objects.exists()
    assert not Blob.objects.exists()
    assert stored_files(home) == []


def test_external_data_that_was_uploaded_is_part_of_the_variant() -> None:
    files = [
        ("net.onnx", io.BytesIO(make_onnx(external="weights.bin")), None),
        ("weights.bin", io.BytesIO(make_weights()), None),
    ]
    version = validate_version(version_id=make_upload(files=files).pk)
    assert version.state == VersionState.READY, version.rejection_reason
    found = version.variants.get().files.order_by("path").values_list("path", "role")
    assert list(found) == [
        ("golden.npz", "golden"),
        ("net.onnx", "model"),
        ("weights.bin", "external_data"),
    ]


def test_external_data_past_its_end_is_rejected() -> None:
    files = [
        ("net.onnx", io.BytesIO(make_onnx(external="w.bin", external_length=10**6)), None),
        ("w.bin", io.BytesIO(make_weights()), None),
    ]
    version = validate_version(version_id=make_upload(files=files).pk)
    assert version.state == VersionState.REJECTED
    assert "past the end" in version.rejection_reason


def test_a_data_set_of_another_shape_rejects_the_version() -> None:
    model = make_model()
    x = np.zeros((8, 5), dtype=np.float32)
    stream = io.BytesIO(make_npz(x=x, y=np.zeros(8, dtype=np.int64)))
    dataset = make_dataset(model, stream=stream)
    version = validate_version(version_id=make_upload(model, dataset=dataset).pk)
    assert version.state == VersionState.REJECTED
    assert "[8, 5]" in version.rejection_reason


def test_a_worker_that_dies_each_time_ends_in_a_rejection() -> None:
    version = make_upload()
    version.validation_attempts = 3
    version.save()
    version = validate_version(version_id=version.pk)
    assert version.state == VersionState.REJECTED
    assert "3 attempts" in version.rejection_reason


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_the_child_ends_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dataset.npz")  # nobody ever writes: the child waits in `open`
    code = (
        "import sys; from pathlib import Path; from registry.validation.parent import run_child; "
        "run_child(Path(sys.argv[1]), {'task': 'dataset', 'classes': 3})"
    )
    worker = Kept([sys.executable, "-c", code, str(tmp_path)], leftover_seconds=3600)
    wait_for(lambda: list_children(tmp_path), "the child", progress=worker.work_ticks)
    worker.kill()
    wait_for(lambda: not list_children(tmp_path), "the child's end")


def list_children(folder: Path) -> list[str]:
    """The process ids of validating children of this folder."""
    sign = f"registry.validation.child\0{folder}\0".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if sign in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return found


def test_the_child_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.validation import parent

    seen: dict[str, Any] = {}
    real = parent.subprocess.Popen

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs["env"])
        return real(*args, **kwargs)

    monkeypatch.setenv("SECRET_KEY", "hush")
    monkeypatch.setattr(parent.subprocess, "Popen", spy)
    validate_version(version_id=make_upload().pk)
    assert seen and "hush" not in seen.values()
