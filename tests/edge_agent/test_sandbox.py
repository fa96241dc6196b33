"""A guest in its sandbox: the same answer as outside, and no way out."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.exceptions import InferenceError
from edge_agent.sandbox import Sandbox, SandboxConfig

wasmtime = pytest.importorskip("wasmtime")
SOURCE = Path(__file__).resolve().parents[2] / "edge_agent" / "guest"
SPIN = '(module (memory (export "memory") 1) (func (export "spin") (loop (br 0))))'
GROW = """(module (memory (export "memory") 1)
  (func (export "grow") (result i32) (memory.grow (i32.const 1000))))"""
FOREIGN = (
    '(module (import "wasi_snapshot_preview1" "fd_write" (func)) (memory (export "memory") 1))'
)
PROBE = """(module
  (import "wasi_ephemeral_nn" "load_by_name" (func $by_name (param i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "load" (func $load (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "set_input" (func $set (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "default")
  (func (export "outside") (result i32)
    (call $by_name (i32.const 0x7fff0000) (i32.const 7) (i32.const 64)))
  (func (export "outside_answer") (result i32)
    (call $by_name (i32.const 0) (i32.const 7) (i32.const 0xfffffffc)))
  (func (export "stranger") (result i32)
    (call $by_name (i32.const 1) (i32.const 6) (i32.const 64)))
  (func (export "bring") (result i32)
    (call $load (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 0) (i32.const 64)))
  (func (export "no_context") (result i32)
    (call $set (i32.const 5) (i32.const 0) (i32.const 0))))"""


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    weights = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "image",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    compiler = os.environ.get("WASM_CC", f"{shlex.quote(sys.executable)} -m ziglang cc")
    out = tmp_path_factory.mktemp("guest")
    command = ["make", "-C", str(SOURCE), f"CC={compiler}", f"OUT={out}"]
    if subprocess.run(command, capture_output=True, timeout=300).returncode:
        pytest.skip("no compiler for wasm: install ziglang or set WASM_CC")
    return (out / "classify.wasm").read_bytes()


def open_sandbox(module: bytes | str, session: object = None, **over: object) -> Sandbox:
    data = module if isinstance(module, bytes) else bytes(wasmtime.wat2wasm(module))
    return Sandbox(data, session, SandboxConfig(**over))  # type: ignore[arg-type]


def test_it_agrees_with_the_runtime_outside(
    guest: bytes, session: onnxruntime.InferenceSession
) -> None:
    sandbox = open_sandbox(guest, session)
    sandbox.prepare(channels=1, side=8, classes=10, top_k=10)
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    tensor = (image.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    scores = session.run(None, {"input": tensor})[0][0]
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    hits = sandbox.classify(image)
    assert [class_id for class_id, _ in hits] == np.argsort(-chances).tolist()
    assert [chance for _, chance in hits] == pytest.approx(np.sort(chances)[::-1], abs=1e-5)
    large = np.full((96, 128, 1), 200, dtype=np.uint8)
    flat = np.full((8, 8, 1), 200, dtype=np.uint8)
    assert sandbox.classify(large)[0] == pytest.approx(sandbox.classify(flat)[0], abs=1e-5)
    sandbox.close()


def test_compiled_code_is_cached_and_damaged_code_is_compiled_anew(
    guest: bytes, session: onnxruntime.InferenceSession, tmp_path: Path
) -> None:
    for _ in range(3):
        sandbox = Sandbox(guest, session, SandboxConfig(), cache=tmp_path)
        sandbox.prepare(channels=1, side=8, classes=10)
        (cached,) = tmp_path.iterdir()
        assert cached.stat().st_mode & 0o077 == 0
        data = bytearray(cached.read_bytes())
        data[len(data) // 2] ^= 1
        cached.write_bytes(data)
        sandbox.close()


def test_an_endless_guest_is_stopped() -> None:
    sandbox = open_sandbox(SPIN, timeout_s=0.1)
    started = time.monotonic()
    with pytest.raises(InferenceError, match="trapped"):
        sandbox.call("spin")
    assert time.monotonic() - started < 2


def test_a_greedy_guest_gets_no_memory_past_its_limit() -> None:
    assert open_sandbox(GROW).call("grow") == -1


def test_a_guest_that_wants_the_system_is_refused() -> None:
    with pytest.raises(InferenceError, match="refused"):
        open_sandbox(FOREIGN)


@pytest.mark.parametrize(
    ("export", "status"),
    [("outside", 1), ("outside_answer", 1), ("stranger", 8), ("bring", 6), ("no_context", 1)],
)
def test_a_hostile_call_is_answered_with_its_error(
    session: onnxruntime.InferenceSession, export: str, status: int
) -> None:
    assert open_sandbox(PROBE, session).call(export) == status
