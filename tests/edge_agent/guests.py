"""Guest modules in the text format, for tests: whole by default, and hostile where told to be."""

import functools

import wasmtime

IMPORTS = "\n".join(
    f'(import "wasi_ephemeral_nn" "{name}" (func ${name} (param {"i32 " * arity}) (result i32)))'
    for name, arity in (
        ("load", 5),
        ("load_by_name", 3),
        ("init_execution_context", 2),
        ("set_input", 3),
        ("compute", 1),
        ("get_output", 5),
    )
)
CLASSIFY = "(param $image i32) (param $height i32) (param $width i32) (param $hits i32) (param i32)"
FIVE = "(param i32 i32 i32 i32 i32)"


@functools.cache
def make_guest(
    classify: str = "(i32.const 0)",
    *,
    memory: str = '(memory (export "memory") 2)',
    init: str = "(i32.const 0)",
    alloc: str = "(i32.const 65536)",
    extra: str = "",
    imports: str = IMPORTS,
) -> bytes:
    """A module with every export of a guest; each argument is the body of one, or more text."""
    return bytes(
        wasmtime.wat2wasm(f"""(module
          {imports}
          {memory}
          {extra}
          (func (export "edge_alloc") (param i32) (result i32) {alloc})
          (func (export "edge_init") {FIVE} (result i32) {init})
          (func (export "edge_normalise") (param i32 f32 f32) (result i32) (i32.const 0))
          (func $classify (export "edge_classify") {CLASSIFY} (result i32)
            (local $n i32) {classify}))""")
    )


SETUP = """
  (drop (call $load_by_name (i32.const 16) (i32.const 7) (i32.const 32)))
  (drop (call $init_execution_context (i32.load (i32.const 32)) (i32.const 36)))"""
"""Names the model and opens a context; its number comes to address 36."""
DATA = """(data (i32.const 16) "default")
  (data (i32.const 64) "\\01\\00\\00\\00\\01\\00\\00\\00\\08\\00\\00\\00\\08\\00\\00\\00")
  (data (i32.const 96)
    "\\40\\00\\00\\00\\04\\00\\00\\00\\01\\00\\00\\00\\00\\04\\00\\00\\00\\01\\00\\00")"""
"""A good name at 16, the dimensions [1, 1, 8, 8] at 64, a tensor of 256 bytes at 1024 at 96."""
RUN = """
  (drop (call $set_input (i32.const 0) (i32.const 0) (i32.const 96)))
  (drop (call $compute (i32.const 0)))"""


def answer_status(*calls: str) -> str:
    """A body that makes the calls and answers, as class 0's only hit, the last one's status.

    The status is the confidence: a guest has no other way to tell it.
    """
    *before, last = calls
    return f"""{" ".join(before)}
      (i32.store (local.get $hits) (i32.const 0))
      (f32.store (i32.add (local.get $hits) (i32.const 4)) (f32.convert_i32_s {last}))
      (i32.const 1)"""
