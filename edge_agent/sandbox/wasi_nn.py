"""`wasi_ephemeral_nn` for wasmtime guests, answered by ONNX Runtime on the host.

The calls follow the WITX of wasi-nn. A guest can name a model and no more: it cannot bring one, and
every pointer it passes is checked against its own memory. All words are unsigned 32-bit numbers.
"""

import ctypes
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_agent.exceptions import GuestTrapError
from edge_agent.sandbox.watchdog import Watchdog

SUCCESS, INVALID_ARGUMENT, RUNTIME_ERROR = 0, 1, 5
UNSUPPORTED, TOO_LARGE, NOT_FOUND = 6, 7, 8
DTYPES = {0: "float16", 1: "float32", 2: "float64", 3: "uint8", 4: "int32", 5: "int64"}
RUNTIME_TYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
ARITIES = {
    "load": 5,
    "load_by_name": 3,
    "init_execution_context": 2,
    "set_input": 3,
    "compute": 1,
    "get_output": 5,
}
MAX_NAME_BYTES = 256
MAX_GRAPHS = MAX_CONTEXTS = 8
MAX_DIMENSIONS = 8
MAX_FREE_DIMENSION = 4096
"""Of a dimension that the model leaves open: it costs the runtime more than the guest."""
MAX_HOST_CALLS = 1000
"""In one call of the guest."""
TENSOR_WORDS = 5


class OutOfBoundsError(Exception):
    """A guest's pointer leads out of its memory."""


class Context:
    """What a guest has given to and got from one session."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.nodes = session.get_inputs()
        self.output_names = [node.name for node in session.get_outputs()]
        self.inputs: dict[str, np.ndarray[Any, Any]] = {}
        self.outputs: list[Any] = []


class WasiNn:
    """The host side for one guest instance."""

    def __init__(self, sessions: Mapping[str, Any], watchdog: Watchdog) -> None:
        """`sessions`: ONNX Runtime sessions by the name that guests know."""
        self._sessions = sessions
        self._watchdog = watchdog
        self._graphs: list[Any] = []
        self._contexts: list[Context] = []
        self._store: Any = None
        self._memory: Any = None
        self._base = self._size = 0
        self._calls_left = MAX_HOST_CALLS

    def define(self, linker: Any) -> None:
        """Adds the calls to a wasmtime linker."""
        import wasmtime

        word = wasmtime.ValType.i32()
        for name, arity in ARITIES.items():
            kind = wasmtime.FuncType([word] * arity, [word])
            call = self._guarded(name, wasmtime.Val.i32)
            linker.define_func("wasi_ephemeral_nn", name, kind, call)

    def bind(self, store: Any, memory: Any) -> None:
        """Serves a new instance; what an earlier one has set up is forgotten."""
        self._store, self._memory = store, memory
        self._graphs, self._contexts = [], []

    def start_call(self) -> None:
        self._calls_left = MAX_HOST_CALLS

    def last_run(self) -> tuple[dict[str, np.ndarray[Any, Any]], list[Any]]:
        """Inputs by name and outputs of the guest's first context; empty before a run."""
        if not self._contexts:
            return {}, []
        return self._contexts[0].inputs, self._contexts[0].outputs

    def _guarded(self, name: str, of_word: Any) -> Any:
        method = getattr(self, name)

        def call(*words: int) -> Any:
            self._calls_left -= 1
            if self._calls_left < 0:
                raise GuestTrapError(f"more than {MAX_HOST_CALLS} host calls in one call")
            if self._memory is None:
                return of_word(
                    INVALID_ARGUMENT
                )  # a start function runs before there is a memory to check
            # Read anew each time: the guest may have grown its memory, which may move it.
            self._size = self._memory.data_len(self._store)
            pointer = ctypes.cast(self._memory.data_ptr(self._store), ctypes.c_void_p)
            self._base = pointer.value or 0
            try:
                return of_word(int(method(*[word & 0xFFFFFFFF for word in words])))
            except OutOfBoundsError:
                return of_word(INVALID_ARGUMENT)

        return call

    def load(self, *_: int) -> int:
        return UNSUPPORTED

    def load_by_name(self, name: int, length: int, graph: int) -> int:
        if length > MAX_NAME_BYTES:
            return INVALID_ARGUMENT
        session = self._sessions.get(self._read(name, length).decode(errors="replace"))
        if session is None:
            return NOT_FOUND
        if len(self._graphs) >= MAX_GRAPHS:
            return TOO_LARGE
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
        if found is None or index >= len(found.nodes):
            return INVALID_ARGUMENT
        node = found.nodes[index]
        dimensions, rank, kind, data, size = self._words(tensor, TENSOR_WORDS)
        # Only the low byte is the type: three bytes of padding follow it.
        dtype = DTYPES.get(kind & 0xFF)
        if dtype is None or dtype != RUNTIME_TYPES.get(node.type) or rank > MAX_DIMENSIONS:
            return INVALID_ARGUMENT
        shape = self._words(dimensions, rank)
        if not fits_shape(shape, node.shape):
            return INVALID_ARGUMENT
        # Python's numbers do not overflow: a product past 32 bits is no other size.
        if math.prod(shape) * np.dtype(dtype).itemsize != size:
            return INVALID_ARGUMENT
        # A copy: the guest may move or change its memory before `compute`.
        array = np.frombuffer(self._read(data, size), dtype=dtype)
        found.inputs[node.name] = array.reshape(shape)
        return SUCCESS

    def compute(self, context: int) -> int:
        import onnxruntime

        found = self._context(context)
        if found is None or len(found.inputs) != len(found.nodes):
            return INVALID_ARGUMENT
        found.outputs = []
        options = onnxruntime.RunOptions()
        try:
            if not self._watchdog.attach(options):
                return RUNTIME_ERROR
            found.outputs = found.session.run(found.output_names, found.inputs, options)
        except Exception:  # noqa: BLE001 the runtime raises its own kinds; the guest gets a number
            return RUNTIME_ERROR
        finally:
            self._watchdog.detach()
        return SUCCESS

    def get_output(self, context: int, index: int, to: int, capacity: int, size: int) -> int:
        found = self._context(context)
        if found is None or index >= len(found.outputs):
            return INVALID_ARGUMENT
        output = found.outputs[index]
        # Texts, sequences and maps would come out as addresses of the host.
        if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub":
            return UNSUPPORTED
        if output.nbytes > capacity:
            return TOO_LARGE
        data = np.ascontiguousarray(output)
        # Both places are checked before either is written.
        at, size_at = self._address(to, data.nbytes), self._address(size, 4)
        ctypes.memmove(at, data.ctypes.data, data.nbytes)
        ctypes.memmove(size_at, data.nbytes.to_bytes(4, "little"), 4)
        return SUCCESS

    def _context(self, number: int) -> Context | None:
        return self._contexts[number] if number < len(self._contexts) else None

    def _address(self, start: int, length: int) -> int:
        """The host's address of `length` bytes at `start` of the guest's memory."""
        if start + length > self._size:
            raise OutOfBoundsError
        return self._base + start

    def _read(self, start: int, length: int) -> bytes:
        return ctypes.string_at(self._address(start, length), length)

    def _words(self, start: int, count: int) -> list[int]:
        return np.frombuffer(self._read(start, 4 * count), dtype="<u4").tolist()

    def _write_word(self, at: int, value: int) -> None:
        ctypes.memmove(self._address(at, 4), value.to_bytes(4, "little"), 4)


def fits_shape(shape: list[int], declared: list[Any]) -> bool:
    """True when a guest's `shape` is one that the model's input declares.

    Args:
        declared: of ONNX Runtime: a number, or a name or None for an open dimension. An input
            without a known rank comes as an empty list, and takes any.
    """
    if declared and len(shape) != len(declared):
        return False
    wanted = declared or [None] * len(shape)
    return all(
        0 < size <= MAX_FREE_DIMENSION if not isinstance(want, int) else size == want
        for size, want in zip(shape, wanted, strict=True)
    )
