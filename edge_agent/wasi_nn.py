"""`wasi_ephemeral_nn` for wasmtime guests, answered by ONNX Runtime on the host.

The calls follow the WITX of wasi-nn. A guest can name a model and no more: it cannot bring one, and
every pointer it passes is checked against its own memory.
"""

import ctypes
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

SUCCESS, INVALID_ARGUMENT, UNSUPPORTED, TOO_LARGE, RUNTIME_ERROR, NOT_FOUND = 0, 1, 6, 7, 5, 8
DTYPES = {0: "float16", 1: "float32", 2: "float64", 3: "uint8", 4: "int32", 5: "int64"}
ARITIES = {
    "load": 5,
    "load_by_name": 3,
    "init_execution_context": 2,
    "set_input": 3,
    "compute": 1,
    "get_output": 5,
}
MAX_CONTEXTS = 8
MAX_DIMENSIONS = 8
TENSOR_WORDS = 5


class OutOfBoundsError(Exception):
    """A guest's pointer leads out of its memory."""


class Context:
    def __init__(self, session: Any) -> None:
        self.session = session
        self.input_names = [node.name for node in session.get_inputs()]
        self.output_names = [node.name for node in session.get_outputs()]
        self.inputs: dict[str, np.ndarray[Any, Any]] = {}
        self.outputs: list[np.ndarray[Any, Any]] = []


class WasiNn:
    """The host side for one guest instance."""

    def __init__(self, sessions: Mapping[str, Any], *, timeout_s: float) -> None:
        """`sessions`: ONNX Runtime sessions by name. `timeout_s` bounds one `compute`: a guest's
        own deadline does not count while the host works for it."""
        self._sessions = sessions
        self._timeout_s = timeout_s
        self._graphs: list[Any] = []
        self._contexts: list[Context] = []
        self._store: Any = None
        self._memory: Any = None

    def define(self, linker: Any) -> None:
        """Adds the calls to a wasmtime linker."""
        import wasmtime

        word = wasmtime.ValType.i32()
        for name, arity in ARITIES.items():
            kind = wasmtime.FuncType([word] * arity, [word])
            linker.define_func("wasi_ephemeral_nn", name, kind, self._guarded(name))

    def bind(self, store: Any, memory: Any) -> None:
        self._store, self._memory = store, memory

    def _guarded(self, name: str) -> Any:
        method = getattr(self, name)

        def call(*words: int) -> int:
            try:
                return int(method(*(word & 0xFFFFFFFF for word in words)))
            except OutOfBoundsError:
                return INVALID_ARGUMENT

        return call

    def load(self, *_: int) -> int:
        return UNSUPPORTED

    def load_by_name(self, name: int, length: int, graph: int) -> int:
        if length > 256:
            return INVALID_ARGUMENT
        session = self._sessions.get(bytes(self._view(name, length)).decode(errors="replace"))
        if session is None:
            return NOT_FOUND
        self._write_word(graph, len(self._graphs))
        self._graphs.append(session)
        return SUCCESS

    def init_execution_context(self, graph: int, context: int) -> int:
        if graph >= len(self._graphs):
            return INVALID_ARGUMENT
        if len(self._contexts) >= MAX_CONTEXTS:
            return TOO_LARGE
        self._write_word(context, len(self._contexts))
        self._contexts.append(Context(self._graphs[graph]))
        return SUCCESS

    def set_input(self, context: int, index: int, tensor: int) -> int:
        found = self._context(context)
        if found is None or index >= len(found.input_names):
            return INVALID_ARGUMENT
        dimensions, count, kind, data, size = self._words(tensor, TENSOR_WORDS)
        dtype = DTYPES.get(kind & 0xFF)
        if dtype is None or count > MAX_DIMENSIONS:
            return INVALID_ARGUMENT
        shape = self._words(dimensions, count)
        expected = np.dtype(dtype).itemsize
        for length in shape:
            expected *= length
        if expected != size:
            return INVALID_ARGUMENT
        # A copy: the guest may move or change its memory before `compute`.
        array = np.frombuffer(bytes(self._view(data, size)), dtype=dtype).reshape(shape)
        found.inputs[found.input_names[index]] = array
        return SUCCESS

    def compute(self, context: int) -> int:
        import onnxruntime

        found = self._context(context)
        if found is None or len(found.inputs) != len(found.input_names):
            return INVALID_ARGUMENT
        options = onnxruntime.RunOptions()
        timer = threading.Timer(self._timeout_s, lambda: setattr(options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            found.outputs = found.session.run(found.output_names, found.inputs, options)
        except Exception:  # noqa: BLE001 the runtime raises its own kinds; the guest gets a number
            return RUNTIME_ERROR
        finally:
            timer.cancel()
        return SUCCESS

    def get_output(self, context: int, index: int, to: int, capacity: int, size: int) -> int:
        found = self._context(context)
        if found is None or index >= len(found.outputs):
            return INVALID_ARGUMENT
        data = np.ascontiguousarray(found.outputs[index])
        if data.nbytes > capacity:
            return TOO_LARGE
        ctypes.memmove(self._view(to, data.nbytes), data.ctypes.data, data.nbytes)
        self._write_word(size, data.nbytes)
        return SUCCESS

    def _context(self, number: int) -> Context | None:
        return self._contexts[number] if number < len(self._contexts) else None

    def _view(self, start: int, length: int) -> Any:
        if self._memory is None or start + length > self._memory.data_len(self._store):
            raise OutOfBoundsError
        base = ctypes.cast(self._memory.data_ptr(self._store), ctypes.c_void_p).value or 0
        return (ctypes.c_ubyte * length).from_address(base + start)

    def _words(self, start: int, count: int) -> list[int]:
        words = np.frombuffer(bytes(self._view(start, 4 * count)), dtype="<u4")
        return [int(word) for word in words]

    def _write_word(self, at: int, value: int) -> None:
        ctypes.memmove(self._view(at, 4), value.to_bytes(4, "little"), 4)
