"""A guest in its sandbox: the same answer as outside, and no way out."""

import hashlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import wasmtime
from onnx import TensorProto, helper, numpy_helper

from edge_agent.config import SandboxConfig
from edge_agent.exceptions import GuestError, GuestRefusedError, InputError
from edge_agent.sandbox.compiled import KEY_NAME, CompiledCache
from edge_agent.sandbox.guest_instance import GuestModel
from edge_agent.sandbox.processor import read_packaged_guest
from edge_agent.sandbox.sandbox import Sandbox, describe_code
from tests.edge_agent.guests import make_guest
from tests.edge_agent.raw_images import classify_outside

AGENT = Path(__file__).resolve().parents[3] / "edge_agent"
MODEL = GuestModel(channels=3, height=8, width=6, classes=10)


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    weights = np.random.default_rng(0).normal(scale=0.05, size=(3 * 8 * 6, 10)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "image",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.fixture
def sandbox(session: onnxruntime.InferenceSession) -> Iterator[Sandbox]:
    sandbox = Sandbox(read_packaged_guest(), session, SandboxConfig())
    yield sandbox
    sandbox.close()


def test_the_packaged_module_is_the_one_that_was_recorded() -> None:
    recorded = dict(
        reversed(line.split()) for line in (AGENT / "guest/SHA256SUMS").read_text().splitlines()
    )
    module = (AGENT / "guest/classify.wasm").read_bytes()
    assert hashlib.sha256(module).hexdigest() == recorded["classify.wasm"]
    source = (AGENT / "guest/classify.c").read_bytes()
    assert hashlib.sha256(source).hexdigest() == recorded["classify.c"], "run `make wasm`"


def test_the_wheel_holds_the_module() -> None:
    settings = tomllib.loads((AGENT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["edge_agent"]
    held = {path.name for pattern in patterns for path in AGENT.glob(pattern)}
    assert {"classify.wasm", "SHA256SUMS"} <= held


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("size", [(8, 6), (1, 1), (5, 17), (96, 128)])
def test_it_agrees_with_the_runtime_outside(
    session: onnxruntime.InferenceSession,
    sandbox: Sandbox,
    size: tuple[int, int],
    activation: str,
) -> None:
    model = GuestModel(
        3, 8, 6, 10, activation, mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225)
    )
    sandbox.prepare(model, top_k=10)
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = classify_outside(session, image, model, top_k=10)
    hits = sandbox.classify(image)
    assert [class_id for class_id, _ in hits] == [class_id for class_id, _ in expected]
    assert [chance for _, chance in hits] == pytest.approx([c for _, c in expected], abs=2e-5)


def test_an_image_of_another_kind_is_named(sandbox: Sandbox) -> None:
    sandbox.prepare(MODEL)
    for image in (
        np.zeros((8, 6, 1), np.uint8),
        np.zeros((8, 6), np.uint8),
        np.zeros((8, 6, 3), np.float32),
    ):
        with pytest.raises(InputError, match="expected uint8"):
            sandbox.classify(image)
    with pytest.raises(GuestError, match="-1"):
        sandbox.classify(np.zeros((1, 8193, 3), np.uint8))
    assert len(sandbox.classify(np.zeros((8, 6, 3), np.uint8))) == 3


def test_an_image_larger_than_the_guests_memory_is_refused(sandbox: Sandbox) -> None:
    sandbox.prepare(MODEL)
    with pytest.raises(GuestError, match="no 30000000 bytes of memory left"):
        sandbox.classify(np.zeros((5000, 2000, 3), np.uint8))
    assert len(sandbox.classify(np.zeros((8, 6, 3), np.uint8))) == 3


def test_scores_that_are_not_finite_are_an_error_and_no_answer(sandbox: Sandbox) -> None:
    sandbox.prepare(GuestModel(3, 8, 6, 10, mean=(3e38,) * 3, deviation=(1e-38,) * 3))
    with pytest.raises(GuestError, match="-6"):
        sandbox.classify(np.zeros((8, 6, 3), np.uint8))


def count_compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    compile_module = wasmtime.Module.__init__

    def count(self: Any, engine: Any, wasm: Any) -> None:
        sizes.append(len(wasm))
        compile_module(self, engine, wasm)

    monkeypatch.setattr(wasmtime.Module, "__init__", count)
    return sizes


def open_with(cache: Path, module: bytes = b"", **over: Any) -> None:
    config = SandboxConfig(**over)
    Sandbox(module or make_guest(), None, config, cache=CompiledCache(cache)).close()


def cached_file(cache: Path) -> Path:
    (path,) = cache.glob("*.cwasm")
    return path


def test_compiled_code_is_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compilations = count_compilations(monkeypatch)
    for _ in range(3):
        open_with(tmp_path)
    assert len(compilations) == 1
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    open_with(tmp_path, fuel=10)
    open_with(tmp_path, make_guest("(i32.const 1)"))
    assert len(compilations) == 3, "other settings and other modules have code of their own"


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_another_modules_code(path: Path) -> None:
    open_with(path.parent, make_guest("(i32.const 1)"))
    (other,) = set(path.parent.glob("*.cwasm")) - {path}
    path.write_bytes(other.read_bytes())
    other.unlink()


def let_others_write(path: Path) -> None:
    path.chmod(0o666)


def put_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def lose_the_key(path: Path) -> None:
    (path.parent / KEY_NAME).write_bytes(bytes(32))


def cut_it(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


@pytest.mark.parametrize(
    "harm",
    [
        flip_a_bit,
        cut_it,
        replace_by_another_modules_code,
        let_others_write,
        put_a_link,
        lose_the_key,
    ],
)
def test_code_that_this_device_does_not_vouch_for_is_compiled_anew(
    harm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_with(tmp_path)
    harm(cached_file(tmp_path))
    compilations = count_compilations(monkeypatch)
    open_with(tmp_path)
    assert len(compilations) == 1
    assert CompiledCache(tmp_path).read(describe_code(make_guest(), SandboxConfig()))
    open_with(tmp_path)
    assert len(compilations) == 1, "and kept again"


def test_a_cache_that_cannot_be_written_stops_no_guest(tmp_path: Path) -> None:
    open_with(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_a_sandbox_that_is_not_prepared_says_so() -> None:
    sandbox = Sandbox(make_guest(), None, SandboxConfig())
    with pytest.raises(GuestError, match="not prepared"):
        sandbox.classify(np.zeros((1, 1, 1), np.uint8))
    sandbox.close()


def test_a_text_is_not_compiled() -> None:
    with pytest.raises(GuestRefusedError, match="no WebAssembly module"):
        Sandbox(b"(module)", None, SandboxConfig())


def test_without_wasmtime_a_person_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wasmtime", None)
    with pytest.raises(GuestRefusedError, match=r"pip install 'aviary-edge-agent\[wasm\]'"):
        Sandbox(b"", None, SandboxConfig())
