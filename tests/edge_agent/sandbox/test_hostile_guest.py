"""Guests that mean harm: each ends in an error of its own, and the host goes on."""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
import wasmtime
from onnx import TensorProto, helper

from edge_agent.config import SandboxConfig
from edge_agent.exceptions import (
    GuestError,
    GuestFuelError,
    GuestRefusedError,
    GuestTimeoutError,
    GuestTrapError,
)
from edge_agent.sandbox.guest_instance import GuestModel
from edge_agent.sandbox.sandbox import Sandbox
from edge_agent.sandbox.wasi_nn import MAX_FREE_DIMENSION, fits_shape
from servers.patience import QUIET_SECONDS
from tests.edge_agent.guests import DATA, IMPORTS, RUN, SETUP, answer_status, make_guest

MODEL = GuestModel(channels=1, height=8, width=8, classes=10, activation="none")
IMAGE = np.zeros((8, 8, 1), dtype=np.uint8)
INVALID, RUNTIME, UNSUPPORTED, TOO_LARGE, NOT_FOUND = 1, 5, 6, 7, 8
SPIN = "(loop (br 0)) (i32.const 0)"


def make_session(nodes: list[Any], output: Any, *initializers: Any) -> Any:
    shape = ["batch", 1, 8, 8]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [output],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.fixture(scope="module")
def session() -> Any:
    return make_session(
        [helper.make_node("Flatten", ["input"], ["scores"])],
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 64]),
    )


@pytest.fixture
def opened() -> Iterator[list[Sandbox]]:
    sandboxes: list[Sandbox] = []
    yield sandboxes
    for sandbox in sandboxes:
        sandbox.close()


def open_guest(opened: list[Sandbox], module: bytes, session: Any, **over: Any) -> Sandbox:
    sandbox = Sandbox(module, session, SandboxConfig(**over))
    opened.append(sandbox)
    sandbox.prepare(MODEL)
    return sandbox


REFUSED = {
    "malformed bytes": (b"\0asm\1\0\0\0\xff\xff\xff", "refused"),
    "no bytes": (b"", "no WebAssembly module"),
    "an ELF file": (b"\x7fELF" + bytes(60), "no WebAssembly module"),
    "a component": (b"\0asm\x0d\0\1\0", "component"),
    "an oversized module": (b"\0asm\1\0\0\0" + bytes(1 << 20), "accepted: 1048576"),
    "the file system": (
        make_guest(imports='(import "wasi_snapshot_preview1" "path_open" (func))'),
        "imports wasi_snapshot_preview1.path_open",
    ),
    "the network": (
        make_guest(imports='(import "wasi_snapshot_preview1" "sock_accept" (func))'),
        "imports wasi_snapshot_preview1.sock_accept",
    ),
    "the clock": (
        make_guest(imports='(import "wasi_snapshot_preview1" "clock_time_get" (func))'),
        "imports wasi_snapshot_preview1.clock_time_get",
    ),
    "the environment": (make_guest(imports='(import "env" "system" (func))'), "env.system"),
    "a call that wasi-nn has not": (
        make_guest(imports='(import "wasi_ephemeral_nn" "exfiltrate" (func))'),
        "refused",
    ),
    "a known call of another type": (
        make_guest(imports='(import "wasi_ephemeral_nn" "compute" (func (param i64)))'),
        "refused",
    ),
    "the host's memory": (
        make_guest(imports='(import "wasi_ephemeral_nn" "memory" (memory 1))', memory=""),
        "exports no memory",
    ),
    "shared memory": (
        bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1 1 shared))')),
        "refused",
    ),
    "64-bit memory": (
        bytes(wasmtime.wat2wasm('(module (memory (export "memory") i64 1))')),
        "refused",
    ),
    "no exports": (bytes(wasmtime.wat2wasm("(module)")), "exports no memory"),
    "an export of another type": (
        make_guest().replace(b"edge_normalise", b"edge_n0rmalise"),
        "edge_normalise: expected",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_it_starts(name: str, session: Any) -> None:
    module, reason = REFUSED[name]
    with pytest.raises(GuestRefusedError, match=reason):
        Sandbox(module, session, SandboxConfig())


NOT_STARTED: dict[str, tuple[bytes, type[GuestError], str]] = {
    "a trap at the start": (
        make_guest(extra="(func $go unreachable) (start $go)"), GuestTrapError, "unreachable"),
    "a start without end": (
        make_guest(extra="(func $go (loop (br 0))) (start $go)"), GuestTimeoutError, "start took"),
    "a start that calls the host": (
        make_guest(
            extra="(func $go (if (i32.ne (call $compute (i32.const 0)) (i32.const 1))"
            " (then unreachable)) (loop (br 0))) (start $go)"
        ),
        GuestTimeoutError, "start took"),
    "more memory than the limit": (
        make_guest(memory='(memory (export "memory") 400)'), GuestRefusedError, "memory"),
    "a huge table": (
        make_guest(extra="(table 1000000 funcref)"), GuestRefusedError, "table"),
    "many tables": (
        make_guest(extra="(table 1 funcref)" * 40), GuestRefusedError, "table"),
    "a refusal of the model": (make_guest(init="(i32.const -4)"), GuestError, "-4"),
    "an address outside": (
        make_guest(alloc="(i32.const 0x7ffffff0)"), GuestError, "outside its memory"),
    "a negative address": (
        make_guest(alloc="(i32.const -16)"), GuestError, "outside its memory"),
    "no memory left": (make_guest(alloc="(i32.const 0)"), GuestError, "memory left"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_STARTED)
def test_it_does_not_start(name: str, session: Any, opened: list[Sandbox]) -> None:
    module, error, reason = NOT_STARTED[name]
    with pytest.raises(error, match=reason):
        open_guest(opened, module, session, timeout_s=limit_for(error, 0.2))


def limit_for(error: type[Exception], seconds: float) -> float:
    """A short limit only where the limit itself is awaited: a busy machine may stall any call."""
    return seconds if error is GuestTimeoutError else QUIET_SECONDS


ENDED: dict[str, tuple[str, type[GuestError], str]] = {
    "a loop without end": (SPIN, GuestTimeoutError, "longer than 1.0 s"),
    "deep recursion": (
        "(call $classify (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))",
        GuestTrapError, "stack_overflow"),
    "a read outside": ("(i32.load (i32.const 0x7fffffff))", GuestTrapError, "memory_out_of_bounds"),
    "a write outside": (
        "(i32.store (i32.const -4) (i32.const 1)) (i32.const 0)",
        GuestTrapError, "memory_out_of_bounds"),
    "a division by zero": (
        "(i32.div_u (i32.const 1) (i32.const 0))", GuestTrapError, "division_by_zero"),
    "a call through an empty table": (
        "(call_indirect (result i32) (i32.const 0))", GuestTrapError, "indirect_call_to_null"),
    "a flood of host calls": (
        "(loop (drop (call $compute (i32.const 9))) (br 0)) (i32.const 0)",
        GuestTrapError, "host calls"),
    "a negative answer": ("(i32.const -7)", GuestError, "-7"),
    "more hits than were asked for": ("(i32.const 1000000)", GuestError, "1000000"),
    "a class that is none": (
        "(i32.store (local.get $hits) (i32.const 10)) (i32.const 1)", GuestError, "class 10"),
    "a confidence that is no number": (
        "(f32.store (i32.add (local.get $hits) (i32.const 4)) (f32.const nan)) (i32.const 1)",
        GuestError, "nan"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDED)
def test_its_call_ends_and_the_next_one_is_served(
    name: str, session: Any, opened: list[Sandbox]
) -> None:
    attack, error, reason = ENDED[name]
    # Only a black image is attacked, so that the same guest can show that it goes on.
    guest = make_guest(
        f"(if (result i32) (i32.load8_u (local.get $image)) (then (i32.const 1)) (else {attack}))",
        extra="(table 1 1 funcref)",
        alloc="(i32.const 4096)",
    )
    sandbox = open_guest(opened, guest, session, timeout_s=limit_for(error, 1.0))
    white = np.full((8, 8, 1), 255, dtype=np.uint8)
    # Image and hits share an address here: class and confidence of a white image are not asked.
    for _ in range(2):
        with pytest.raises(error, match=reason):
            sandbox.classify(IMAGE)
        with pytest.raises(GuestError, match="class 4294967295"):
            sandbox.classify(white)


def test_fuel_ends_a_loop_at_the_same_place_everywhere(session: Any, opened: list[Sandbox]) -> None:
    count = """(loop (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (i32.store (i32.const 1024) (local.get $n)) (br 0)) (i32.const 0)"""
    sandbox = open_guest(opened, make_guest(count), session, fuel=100_000)
    rounds = []
    for _ in range(2):
        sandbox.prepare(MODEL)
        instance = sandbox._instance
        assert instance is not None
        with pytest.raises(GuestFuelError, match="100000 units"):
            sandbox.classify(IMAGE)
        rounds.append(int.from_bytes(instance.read(1024, 4), "little"))
    assert rounds[0] == rounds[1] > 1000


def test_growing_memory_stops_at_the_limit(session: Any, opened: list[Sandbox]) -> None:
    grow = """(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
      (i32.store (local.get $hits) (i32.const 0))
      (f32.store (i32.add (local.get $hits) (i32.const 4))
        (f32.convert_i32_u (memory.size)))
      (i32.const 1)"""
    sandbox = open_guest(opened, make_guest(grow), session, memory_max_bytes=4 << 20)
    assert sandbox.classify(IMAGE) == [(0, 50.0)]  # 2 pages and 3 times 16 of at most 64


# What is answered to a call: a status of wasi-nn, never more than the guest's own memory touched.
STATUSES: dict[str, tuple[tuple[str, ...], int]] = {
    "a good run": ((SETUP, RUN, """(call $get_output (i32.const 0) (i32.const 0)
        (i32.const 2048) (i32.const 256) (i32.const 48))"""), 0),
    "load": (("""(call $load (i32.const 16) (i32.const 1) (i32.const 1) (i32.const 0)
        (i32.const 32))""",), UNSUPPORTED),
    "a name outside": (
        ("(call $load_by_name (i32.const 0x7fff0000) (i32.const 7) (i32.const 32))",), INVALID),
    "a name that wraps round": (
        ("(call $load_by_name (i32.const -4) (i32.const 8) (i32.const 32))",), INVALID),
    "a name of 4 GiB": (
        ("(call $load_by_name (i32.const 16) (i32.const -1) (i32.const 32))",), INVALID),
    "a name of another model": (
        ("(call $load_by_name (i32.const 17) (i32.const 6) (i32.const 32))",), NOT_FOUND),
    "a graph written outside": (
        ("(call $load_by_name (i32.const 16) (i32.const 7) (i32.const -3))",), INVALID),
    "a hundred graphs": ((
        """(loop
          (drop (call $load_by_name (i32.const 16) (i32.const 7) (i32.const 32)))
          (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
            (i32.const 100))))""",
        "(call $load_by_name (i32.const 16) (i32.const 7) (i32.const 32))"), TOO_LARGE),
    "a context of no graph": (
        ("(call $init_execution_context (i32.const 0) (i32.const 36))",), INVALID),
    "a context of graph -1": (
        (SETUP, "(call $init_execution_context (i32.const -1) (i32.const 36))"), INVALID),
    "a context written outside": (
        (SETUP, "(call $init_execution_context (i32.const 0) (i32.const 0x20000))"), INVALID),
    "a hundred contexts": ((
        SETUP,
        """(loop
          (drop (call $init_execution_context (i32.const 0) (i32.const 36)))
          (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
            (i32.const 100))))""",
        "(call $init_execution_context (i32.const 0) (i32.const 36))"), TOO_LARGE),
    "an input of no context": (
        ("(call $set_input (i32.const 5) (i32.const 0) (i32.const 96))",), INVALID),
    "an input that the model has not": (
        (SETUP, "(call $set_input (i32.const 0) (i32.const 1) (i32.const 96))"), INVALID),
    "a tensor outside": (
        (SETUP, "(call $set_input (i32.const 0) (i32.const 0) (i32.const 0x1fff0))"), INVALID),
    "dimensions outside": ((
        SETUP, "(i32.store (i32.const 96) (i32.const 0x7fffffff))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    "four thousand million dimensions": ((
        SETUP, "(i32.store (i32.const 100) (i32.const -1))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    "a giant dimension": ((
        SETUP, "(i32.store (i32.const 64) (i32.const -1))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    # 0x04000001 * 64 elements of 4 bytes is 256 past 2**34: 256 in 32-bit arithmetic.
    "a size that overflows to the right one": ((
        SETUP, "(i32.store (i32.const 64) (i32.const 0x04000001))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    "an empty dimension": ((
        SETUP, "(i32.store (i32.const 64) (i32.const 0))",
        "(i32.store (i32.const 112) (i32.const 0))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    "a shape that the model has not": ((
        SETUP, "(i32.store (i32.const 72) (i32.const 4)) (i32.store (i32.const 76) (i32.const 16))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    "a type that the model has not": ((
        SETUP, "(i32.store8 (i32.const 104) (i32.const 3))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    "a type that nobody has": ((
        SETUP, "(i32.store8 (i32.const 104) (i32.const 200))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    "padding that is not zero": ((
        SETUP, "(i32.store8 (i32.const 105) (i32.const 255))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), 0),
    "data outside": ((
        SETUP, "(i32.store (i32.const 108) (i32.const 0x1ff80))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    "a size that is not the shape's": ((
        SETUP, "(i32.store (i32.const 112) (i32.const 255))",
        "(call $set_input (i32.const 0) (i32.const 0) (i32.const 96))"), INVALID),
    "a run of no context": (("(call $compute (i32.const -1))",), INVALID),
    "a run without input": ((SETUP, "(call $compute (i32.const 0))"), INVALID),
    "an output before the run": ((SETUP, """(call $get_output (i32.const 0) (i32.const 0)
        (i32.const 2048) (i32.const 256) (i32.const 48))"""), INVALID),
    "an output that the model has not": ((SETUP, RUN, """(call $get_output (i32.const 0)
        (i32.const 7) (i32.const 2048) (i32.const 256) (i32.const 48))"""), INVALID),
    "an output into too small a place": ((SETUP, RUN, """(call $get_output (i32.const 0)
        (i32.const 0) (i32.const 2048) (i32.const 255) (i32.const 48))"""), TOO_LARGE),
    "an output outside": ((SETUP, RUN, """(call $get_output (i32.const 0) (i32.const 0)
        (i32.const 0x1ff80) (i32.const 256) (i32.const 48))"""), INVALID),
    "an output's size outside": ((SETUP, RUN, """(call $get_output (i32.const 0) (i32.const 0)
        (i32.const 2048) (i32.const 256) (i32.const -1))"""), INVALID),
}  # fmt: skip


@pytest.mark.parametrize("name", STATUSES)
def test_a_host_call_is_answered_with_its_status(
    name: str, session: Any, opened: list[Sandbox]
) -> None:
    calls, status = STATUSES[name]
    guest = make_guest(answer_status(*calls), extra=DATA)
    assert open_guest(opened, guest, session).classify(IMAGE) == [(0, float(status))]


def test_every_host_call_has_its_hostile_pointers() -> None:
    tried = " ".join(last for *_, last in (calls for calls, _ in STATUSES.values()))
    names = [line.split('"')[3] for line in IMPORTS.splitlines()]
    assert len(names) == 6 and all(f"${name}" in tried for name in names)


def test_texts_of_the_host_do_not_come_out_as_addresses(opened: list[Sandbox]) -> None:
    session = make_session(
        [helper.make_node("Cast", ["input"], ["text"], to=TensorProto.STRING)],
        helper.make_tensor_value_info("text", TensorProto.STRING, ["batch", 1, 8, 8]),
    )
    output = """(call $get_output (i32.const 0) (i32.const 0) (i32.const 2048)
        (i32.const 4096) (i32.const 48))"""
    guest = make_guest(answer_status(SETUP, RUN, output), extra=DATA)
    assert open_guest(opened, guest, session).classify(IMAGE) == [(0, float(UNSUPPORTED))]


def make_slow_session() -> Any:
    """A model that goes round a loop of its own for minutes."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["going_on"]),
            helper.make_node("Sin", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [None, 1, 8, 8]),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [None, 1, 8, 8]),
        ],
    )
    return make_session(
        [helper.make_node("Loop", ["rounds", "", "input"], ["scores"], body=body)],
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1, 8, 8]),
        helper.make_tensor("rounds", TensorProto.INT64, [], [1 << 40]),
    )


def test_a_run_that_takes_too_long_is_ended_in_the_runtime(opened: list[Sandbox]) -> None:
    # Time in a host call does not count for the guest: without an end of its own this would hang.
    again = f"{SETUP} {RUN} (loop {RUN} (br 0)) (i32.const 0)"
    sandbox = open_guest(opened, make_guest(again, extra=DATA), make_slow_session(), timeout_s=0.2)
    for _ in range(2):
        with pytest.raises(GuestTimeoutError):
            sandbox.classify(IMAGE)
    once = make_guest(answer_status(SETUP, RUN, "(call $compute (i32.const 0))"), extra=DATA)
    # A guest that leaves at once after the end is told the same.
    with pytest.raises(GuestTimeoutError):
        open_guest(opened, once, make_slow_session(), timeout_s=0.2).classify(IMAGE)


def test_a_call_in_time_is_not_ended_by_the_call_before(
    session: Any, opened: list[Sandbox]
) -> None:
    limit_s = 3.0  # longer than a busy machine stalls one call
    sandbox = open_guest(opened, make_guest("(i32.const 0)"), session, timeout_s=limit_s)
    ends_at = time.monotonic() + 1.2 * limit_s
    while time.monotonic() < ends_at:
        assert sandbox.classify(IMAGE) == []


@pytest.mark.parametrize(
    ("shape", "declared", "fits"),
    [
        ([1, 3], ["batch", 3], True),
        ([1, 3], [None, 3], True),
        ([2, 3], [1, 3], False),
        ([1, 3, 1], ["batch", 3], False),
        ([0, 3], ["batch", 3], False),
        ([MAX_FREE_DIMENSION, 3], ["batch", 3], True),
        ([MAX_FREE_DIMENSION + 1, 3], ["batch", 3], False),
        ([7, 7], [], True),
    ],
)
def test_a_shape_fits_what_the_model_declares(
    shape: list[int], declared: list[Any], fits: bool
) -> None:
    assert fits_shape(shape, declared) is fits
    assert math.prod(shape) >= 0
