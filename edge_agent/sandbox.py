"""Runs a guest module under limits: memory, time, and no import but the neural network.

Compiled code is cached beside the state, keyed by the module's digest and by the runtime, and kept
with a digest of its own: the runtime loads damaged code without a word.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.exceptions import InferenceError
from edge_agent.wasi_nn import WasiNn

EPOCH_S = 0.01


@dataclass(frozen=True)
class SandboxConfig:
    memory_max_bytes: int = 16 << 20
    timeout_s: float = 1.0
    """For the guest's own work in one call, and again for the runtime's."""


class Sandbox:
    """One instance of a guest module, bound to one ONNX Runtime session named `default`."""

    def __init__(
        self, module: bytes, session: Any, config: SandboxConfig, *, cache: Path | None = None
    ) -> None:
        """Raises InferenceError when the module is no guest of ours."""
        import wasmtime

        self._config = config
        self._wasmtime = wasmtime
        settings = wasmtime.Config()
        settings.epoch_interruption = True
        settings.wasm_threads = False
        self._engine = wasmtime.Engine(settings)
        self._store = wasmtime.Store(self._engine)
        self._store.set_limits(
            memory_size=config.memory_max_bytes, instances=1, memories=1, tables=1
        )
        host = WasiNn({"default": session}, timeout_s=config.timeout_s)
        linker = wasmtime.Linker(self._engine)
        host.define(linker)
        self._closing = threading.Event()
        threading.Thread(target=self._tick, name="epochs", daemon=True).start()
        try:
            self._set_deadline()
            instance = linker.instantiate(self._store, self._load(module, cache))
            self._exports = instance.exports(self._store)
            self._memory = self._exports["memory"]
        except (wasmtime.WasmtimeError, wasmtime.Trap, KeyError) as error:
            self.close()
            raise InferenceError(f"guest module refused: {str(error)[:200]}") from error
        host.bind(self._store, self._memory)
        self._image: tuple[int, int] = (0, 0)

    def close(self) -> None:
        self._closing.set()

    def prepare(self, *, channels: int, side: int, classes: int, top_k: int = 3) -> None:
        """Binds the guest to the model: input `[1, channels, side, side]`, `classes` scores."""
        status = self.call("edge_init", channels, side, classes)
        if status != 0:
            raise InferenceError(f"guest could not start: {status}")
        self._channels, self._top_k = channels, top_k
        self._hits = self.call("edge_alloc", 8 * top_k)

    def classify(self, image: np.ndarray[Any, Any]) -> list[tuple[int, float]]:
        """The best classes of an image `[height, width, channels]` of uint8."""
        height, width, channels = image.shape
        if image.dtype != np.uint8 or channels != self._channels:
            raise InferenceError(f"expected uint8 with {self._channels} channels")
        data = np.ascontiguousarray(image).tobytes()
        start, size = self._image
        if size < len(data):
            start, size = self.call("edge_alloc", len(data)), len(data)
            if start == 0:
                raise InferenceError("the image does not fit the guest's memory")
            self._image = (start, size)
        self._memory.write(self._store, data, start)
        count = self.call("edge_classify", start, width, height, self._hits, self._top_k)
        if count < 0:
            raise InferenceError(f"guest failed: {count}")
        raw = bytes(self._memory.read(self._store, self._hits, self._hits + 8 * count))
        hits = np.frombuffer(raw, dtype=[("class_id", "<u4"), ("confidence", "<f4")])
        return [(int(hit["class_id"]), float(hit["confidence"])) for hit in hits]

    def call(self, name: str, *arguments: int | float) -> int:
        """Calls an export under the time limit; raises InferenceError when it traps."""
        self._set_deadline()
        try:
            return int(self._exports[name](self._store, *arguments) or 0)
        except (self._wasmtime.Trap, self._wasmtime.WasmtimeError) as error:
            raise InferenceError(f"guest trapped in {name}: {str(error)[:200]}") from error

    def _set_deadline(self) -> None:
        self._store.set_epoch_deadline(max(2, round(self._config.timeout_s / EPOCH_S)))

    def _tick(self) -> None:
        while not self._closing.wait(EPOCH_S):
            self._engine.increment_epoch()

    def _load(self, module: bytes, cache: Path | None) -> Any:
        wasmtime = self._wasmtime
        if cache is None:
            return wasmtime.Module(self._engine, module)
        version = importlib.metadata.version("wasmtime")
        key = f"{hashlib.sha256(module).hexdigest()}|{version}|{platform.machine()}"
        path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.cwasm"
        with contextlib.suppress(OSError, wasmtime.WasmtimeError):
            stored = path.read_bytes()
            if hashlib.sha256(stored[32:]).digest() == stored[:32]:
                return wasmtime.Module.deserialize(self._engine, stored[32:])
        compiled = wasmtime.Module(self._engine, module)
        code = bytes(compiled.serialize())
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(hashlib.sha256(code).digest() + code)
        os.replace(temporary, path)
        return compiled
