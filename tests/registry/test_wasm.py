"""What a processor module may be: read without running it, and never past its end."""

from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.validation.rules import RuleError
from registry.validation.wasm import (
    HEADER,
    HOST_CALLS,
    MAX_MODULE_BYTES,
    check_processor,
    parse_module,
)
from tests.edge_agent.guests import make_guest

PACKAGED = Path(__file__).resolve().parents[2] / "edge_agent" / "guest" / "classify.wasm"


def wat(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def importing(what: str) -> bytes:
    return make_guest(imports=what)


REFUSED = {
    "empty": (b"", "0 bytes"),
    "too large": (HEADER + bytes(MAX_MODULE_BYTES), "1048584 bytes"),
    "text": (b"(module)", "not a WebAssembly module"),
    "an ONNX file": (b"\x08\x08\x12\x07pytorch", "not a WebAssembly module"),
    "a component": (b"\0asm\x0d\0\1\0", "component"),
    "a later version": (b"\0asm\2\0\0\0", "not a WebAssembly module"),
    "only a header": (HEADER, "exports no memory"),
    "WASI": (importing('(import "wasi_snapshot_preview1" "fd_write" (func))'), "'fd_write'"),
    "the environment": (importing('(import "env" "abort" (func))'), "'env'.'abort'"),
    "a call wasi-nn has not": (
        importing('(import "wasi_ephemeral_nn" "unload" (func (param i32)))'), "'unload'"),
    "a call of another type": (
        importing('(import "wasi_ephemeral_nn" "compute" (func (param i64) (result i32)))'),
        "'compute' with another type"),
    "an imported memory": (
        wat('(module (import "wasi_ephemeral_nn" "memory" (memory 1)))'), "no function"),
    "an imported global": (
        wat('(module (import "wasi_ephemeral_nn" "g" (global i32)))'), "no function"),
    "no exported memory": (make_guest(memory="(memory 1)"), "exports no memory"),
    "a memory past the limit": (
        make_guest(memory='(memory (export "memory") 257)'), "at most 256 pages"),
    "a shared memory": (
        wat('(module (memory (export "memory") 1 1 shared))'), "shared or of 64 bits"),
    "a memory of 64 bits": (wat('(module (memory (export "memory") i64 1))'), "of 64 bits"),
    "two memories": (
        make_guest(memory='(memory (export "memory") 1) (memory 1)'), "Expected one memory"),
    "a missing export": (
        make_guest().replace(b"edge_classify", b"edge_class1fy"), "'edge_classify'"),
    "an export that is no function": (
        wat('(module (memory (export "memory") (export "edge_alloc") 1))'), "'edge_alloc'"),
    "a function that is not there": (
        HEADER + b"\5\3\1\0\1" + b"\7\x17\2\6memory\2\0\x0aedge_alloc\0\5", "function 5"),
    "a section twice": (HEADER + b"\1\1\0\1\1\0", "section 1 too many"),
    "an unknown section": (HEADER + b"\x20\0", "section 32 too many"),
    "a section past the end": (HEADER + b"\1\x7f\0", "cut off"),
    "a section with something left": (HEADER + b"\1\2\0\0", "1 bytes too many"),
    "a count past the bytes": (HEADER + b"\2\5\xff\xff\xff\xff\x0f", "promises 4294967295 items"),
    "a number of six bytes": (HEADER + b"\2\x86\x80\x80\x80\x80\x80\0", "passes 32 bits"),
    "a number past 32 bits": (HEADER + b"\2\xff\xff\xff\xff\x7f", "passes 32 bits"),
    "a name that is not UTF-8": (HEADER + b"\2\7\1\1\xff\1a\0\0", "not UTF-8"),
    "a name past the end": (HEADER + b"\2\3\1\x7fa", "cut off"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_its_reason(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(RuleError) as caught:
        check_processor(data)
    assert reason in str(caught.value)


def test_the_agents_own_module_and_a_guest_with_every_call_are_taken() -> None:
    packaged = check_processor(PACKAGED.read_bytes())
    assert {name for _, name, _ in packaged.imports} == set(HOST_CALLS) - {"load"}
    assert len(check_processor(make_guest()).imports) == len(HOST_CALLS)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_module_is_refused_or_read_but_never_breaks_the_reader(
    data: st.DataObject,
) -> None:
    module = bytearray(PACKAGED.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        module[data.draw(st.integers(0, len(module) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(module)))
    for changed in (bytes(module), bytes(module[:cut])):
        try:
            check_processor(changed)
        except RuleError as error:
            assert str(error)


@settings(max_examples=150, deadline=None)
@given(tail=st.binary(max_size=200))
def test_any_bytes_after_the_header_are_refused_or_read(tail: bytes) -> None:
    try:
        parse_module(HEADER + tail)
    except RuleError as error:
        assert str(error)


NAMES = st.text(alphabet=st.characters(codec="ascii", categories=("L", "N")), max_size=12)


@settings(max_examples=50, deadline=None)
@given(
    imports=st.lists(st.tuples(NAMES, NAMES, st.integers(0, 6)), max_size=8),
    exports=st.lists(NAMES, max_size=8, unique=True),
)
def test_it_reads_what_the_runtime_reads(
    imports: list[tuple[str, str, int]], exports: list[str]
) -> None:
    lines = [
        f'(import "{host}" "{name}" (func (param {"i32 " * arity})))'
        for host, name, arity in imports
    ]
    lines += [f'(func (export "{name}"))' for name in exports]
    data = wat(f"(module {' '.join(lines)})")
    module, runtime = parse_module(data), wasmtime.Module(wasmtime.Engine(), data)
    assert [(host, name) for host, name, _ in module.imports] == [
        (item.module, item.name) for item in runtime.imports
    ]
    assert [len(module.types[kind][0]) for _, _, kind in module.imports] == [
        arity for _, _, arity in imports
    ]
    assert list(module.exports) == [item.name for item in runtime.exports]
