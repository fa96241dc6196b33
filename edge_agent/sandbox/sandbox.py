"""Runs a guest module under limits: memory, time, fuel, stack, and no import but the model.

A guest is taken for hostile: whatever it does ends in a `GuestError` with a code of its own, the
host goes on, and the next call gets a fresh instance.
"""

import hashlib
import importlib.metadata
import math
import platform
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.config import SandboxConfig
from edge_agent.exceptions import GuestError, GuestRefusedError, InputError
from edge_agent.sandbox.compiled import CompiledCache
from edge_agent.sandbox.guest_instance import EXPORTS, HIT, GuestModel, Instance
from edge_agent.sandbox.wasi_nn import WasiNn
from edge_agent.sandbox.watchdog import Watchdog

CORE_MODULE = b"\0asm\1\0\0\0"
COMPONENT = b"\0asm\x0d\0\1\0"
GUARD_BYTES = 65536


@dataclass(frozen=True)
class GuestAnswer:
    hits: list[tuple[int, float]]
    """Class and confidence, best first."""
    inputs: dict[str, np.ndarray[Any, Any]]
    """What the guest gave the model, by the input's name."""
    outputs: list[Any]
    """What the model answered it."""


class Sandbox:
    """A guest module, bound to one ONNX Runtime session named `default`. Safe to share by threads:
    one call at a time."""

    def __init__(
        self,
        module: bytes,
        session: Any,
        config: SandboxConfig,
        *,
        cache: CompiledCache | None = None,
    ) -> None:
        """Compiles the module, or takes its code from `cache`; nothing of it runs yet.

        Raises:
            GuestRefusedError: it is no module that may start here, or nothing here runs modules.
        """
        try:
            import wasmtime
        except ImportError as error:
            raise GuestRefusedError(
                "no wasmtime here: pip install 'aviary-edge-agent[wasm]'"
            ) from error
        self._wasmtime = wasmtime
        self._config = config
        check_module_bytes(module, config.module_max_bytes)
        self._instance: Instance | None = None
        self._engine = wasmtime.Engine(make_settings(config))
        self._watchdog = Watchdog(self._engine.increment_epoch)
        self._host = WasiNn({"default": session}, self._watchdog)
        # The runtime's table of host functions holds the host, which holds the guest's memory:
        # without this, neither would ever be freed.
        self._release = weakref.finalize(self, release, self._watchdog, self._host)
        self._lock = threading.Lock()
        self._model: GuestModel | None = None
        try:
            compiled = self._compile(module, cache)
            self._check_types(compiled)
            linker = wasmtime.Linker(self._engine)
            self._host.define(linker)
            self._template = linker.instantiate_pre(compiled)
        except wasmtime.WasmtimeError as error:
            self.close()
            raise GuestRefusedError(f"guest module refused: {str(error)[:200]}") from error
        except GuestRefusedError:
            self.close()
            raise

    def close(self) -> None:
        """Ends the guest; also done when the sandbox is no longer used."""
        self._instance = None
        self._release()

    def prepare(self, model: GuestModel, *, top_k: int = 3) -> None:
        """Starts an instance for `model`.

        Raises:
            GuestError: the guest does not start, or does not take the model.
        """
        with self._lock:
            self._model, self._top_k = model, top_k
            self._instance = None
            self._start()

    def classify(self, image: np.ndarray[Any, Any]) -> list[tuple[int, float]]:
        """The hits of `run`."""
        return self.run(image).hits

    def run(self, image: np.ndarray[Any, Any]) -> GuestAnswer:
        """The best classes of an image `[height, width, channels]` of uint8.

        Raises:
            InputError: the image is no such array.
            GuestError: the guest failed, hung or answered nonsense; the next call starts anew.
        """
        with self._lock:
            model = self._model
            if model is None:
                raise GuestError("the guest is not prepared")
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != model.channels:
                raise InputError(
                    f"image: expected uint8 [height, width, {model.channels}], "
                    f"got {image.dtype} {list(image.shape)}"
                )
            try:
                hits = self._classify(self._instance or self._start(), image, model)
                return GuestAnswer(hits, *self._host.last_run())
            except GuestError:
                self._instance = None
                raise

    def _classify(
        self, instance: Instance, image: np.ndarray[Any, Any], model: GuestModel
    ) -> list[tuple[int, float]]:
        height, width, _ = image.shape
        address = instance.place(np.ascontiguousarray(image).tobytes())
        count = instance.call(
            "edge_classify", address, height, width, instance.hits_address, self._top_k
        )
        if not 0 <= count <= self._top_k:
            raise GuestError(f"the guest answered {count}, expected 0 to {self._top_k} classes")
        hits = np.frombuffer(instance.read(instance.hits_address, HIT.itemsize * count), dtype=HIT)
        answer = [(int(class_id), float(confidence)) for class_id, confidence in hits.tolist()]
        for class_id, confidence in answer:
            if class_id >= model.classes or not math.isfinite(confidence):
                raise GuestError(f"the guest answered class {class_id} with {confidence}")
        return answer

    def _start(self) -> Instance:
        assert self._model is not None
        instance = Instance(
            self._wasmtime, self._engine, self._template, self._host, self._watchdog, self._config
        )
        instance.prepare(self._model, top_k=self._top_k)
        self._instance = instance
        return instance

    def _compile(self, module: bytes, cache: CompiledCache | None) -> Any:
        wasmtime = self._wasmtime
        if cache is None:
            return wasmtime.Module(self._engine, module)
        identity = describe_code(module, self._config)
        code = cache.read(identity)
        if code is not None:
            try:
                return wasmtime.Module.deserialize(self._engine, code)
            except wasmtime.WasmtimeError:
                pass  # of another processor or build of the runtime: compiled anew
        compiled = wasmtime.Module(self._engine, module)
        cache.write(identity, bytes(compiled.serialize()))
        return compiled

    def _check_types(self, compiled: Any) -> None:
        wasmtime = self._wasmtime
        for needed in compiled.imports:
            if needed.module != "wasi_ephemeral_nn":
                raise GuestRefusedError(
                    f"the guest imports {needed.module}.{needed.name}; "
                    "only wasi_ephemeral_nn is offered"
                )
        exports = {export.name: export.type for export in compiled.exports}
        if not isinstance(exports.get("memory"), wasmtime.MemoryType):
            raise GuestRefusedError("the guest exports no memory")
        for name, expected in EXPORTS.items():
            kind = exports.get(name)
            found = None
            if isinstance(kind, wasmtime.FuncType):
                found = ([str(p) for p in kind.params], [str(r) for r in kind.results])
            if found != expected:
                raise GuestRefusedError(f"export {name}: expected {expected}, got {found}")


def release(watchdog: Watchdog, host: WasiNn) -> None:
    watchdog.close()
    host.bind(None, None)


def check_module_bytes(module: bytes, max_bytes: int) -> None:
    """Raises GuestRefusedError: too large, or not a core module; a text would be compiled too."""
    if len(module) > max_bytes:
        raise GuestRefusedError(f"the guest has {len(module)} bytes; accepted: {max_bytes}")
    if module.startswith(COMPONENT):
        raise GuestRefusedError("the guest is a WebAssembly component; expected a core module")
    if not module.startswith(CORE_MODULE):
        raise GuestRefusedError(f"no WebAssembly module: it begins with {module[:8].hex()!r}")


def make_settings(config: SandboxConfig) -> Any:
    """The runtime's configuration: only what a small classifier needs is turned on."""
    import wasmtime

    settings = wasmtime.Config()
    settings.epoch_interruption = True
    settings.consume_fuel = config.fuel > 0
    settings.max_wasm_stack = config.stack_max_bytes
    # By default 4 GiB of addresses are reserved for each memory, which an address-space limit on a
    # small device forbids.
    settings.memory_reservation = config.memory_max_bytes
    settings.memory_reservation_for_growth = 0
    settings.memory_guard_size = GUARD_BYTES
    settings.parallel_compilation = False
    for feature in (
        "wasm_threads",
        "wasm_memory64",
        "wasm_multi_memory",
        "wasm_component_model",
        "wasm_gc",
        "wasm_function_references",
        "wasm_exceptions",
        "wasm_tail_call",
        "wasm_relaxed_simd",
    ):
        setattr(settings, feature, False)
    return settings


def describe_code(module: bytes, config: SandboxConfig) -> str:
    """All that the compiled code of a module depends on, in one line."""
    return "|".join(
        (
            hashlib.sha256(module).hexdigest(),
            importlib.metadata.version("wasmtime"),
            platform.system(),
            platform.machine(),
            read_cpu_features(),
            f"fuel={config.fuel > 0} memory={config.memory_max_bytes} guard={GUARD_BYTES} "
            f"stack={config.stack_max_bytes}",
        )
    )


def read_cpu_features(path: Path = Path("/proc/cpuinfo")) -> str:
    """The instruction sets of the first core, as the kernel names them; empty where it does not."""
    try:
        with path.open() as stream:
            for line in stream:
                if line.startswith(("flags", "Features")):
                    return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return ""
