"""One run of a guest module: its memory and its calls, each under the limits of the sandbox."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.config import SandboxConfig
from edge_agent.exceptions import (
    GuestError,
    GuestFuelError,
    GuestRefusedError,
    GuestTimeoutError,
    GuestTrapError,
)
from edge_agent.sandbox.wasi_nn import WasiNn
from edge_agent.sandbox.watchdog import Watchdog

ACTIVATIONS = {"none": 0, "softmax": 1, "sigmoid": 2}
HIT = np.dtype([("class_id", "<u4"), ("confidence", "<f4")])
I32, F32 = "i32", "f32"
EXPORTS = {
    "edge_alloc": ([I32], [I32]),
    "edge_init": ([I32] * 5, [I32]),
    "edge_normalise": ([I32, F32, F32], [I32]),
    "edge_classify": ([I32] * 5, [I32]),
}
"""Parameters and results of what a guest offers; README.md in `guest/` says what they mean."""


@dataclass(frozen=True)
class GuestModel:
    """What a guest is told of the model it serves."""

    channels: int
    height: int
    width: int
    classes: int
    activation: str = "softmax"
    mean: tuple[float, ...] = ()
    """Per channel, of pixels in [0, 1]; empty takes 0."""
    deviation: tuple[float, ...] = ()
    """Per channel, above 0; empty takes 1."""


class Instance:
    """One run of a guest: its memory and its calls, each under the limits."""

    def __init__(
        self,
        wasmtime: Any,
        engine: Any,
        template: Any,
        host: WasiNn,
        watchdog: Watchdog,
        config: SandboxConfig,
    ) -> None:
        """Raises GuestError: its start function fails, or it wants more than the limits."""
        self._wasmtime, self._host = wasmtime, host
        self._watchdog, self._config = watchdog, config
        self._store = wasmtime.Store(engine)
        self._store.set_limits(
            memory_size=config.memory_max_bytes,
            table_elements=config.table_max_elements,
            instances=1,
            memories=1,
            tables=1,
        )
        host.bind(None, None)
        instance = self._limited("start", lambda: template.instantiate(self._store))
        exports = instance.exports(self._store)
        self._memory = exports["memory"]
        self._functions = {name: exports[name] for name in EXPORTS}
        host.bind(self._store, self._memory)
        self._image_address = self._image_capacity = 0
        self.hits_address = 0

    def prepare(self, model: GuestModel, *, top_k: int) -> None:
        status = self.call(
            "edge_init",
            model.channels,
            model.height,
            model.width,
            model.classes,
            ACTIVATIONS[model.activation],
        )
        if status != 0:
            raise GuestError(f"the guest does not take the model: {status}")
        if model.mean or model.deviation:
            for channel in range(model.channels):
                mean = model.mean[channel] if model.mean else 0.0
                deviation = model.deviation[channel] if model.deviation else 1.0
                status = self.call("edge_normalise", channel, mean, deviation)
                if status != 0:
                    raise GuestError(f"the guest does not take mean and deviation: {status}")
        self.hits_address = self._allocate(HIT.itemsize * top_k)

    def place(self, data: bytes) -> int:
        """Copies an image into the guest; its address there."""
        if self._image_capacity < len(data):
            self._image_address, self._image_capacity = self._allocate(len(data)), len(data)
        self._check_bounds(self._image_address, len(data))
        self._memory.write(self._store, data, self._image_address)
        return self._image_address

    def read(self, address: int, size: int) -> bytes:
        self._check_bounds(address, size)
        return bytes(self._memory.read(self._store, address, address + size))

    def call(self, name: str, *arguments: int | float) -> int:
        """The signed answer of an export.

        Raises:
            GuestTimeoutError, GuestFuelError, GuestTrapError: it did not come to its end.
        """
        # A value that says its type is passed at half the cost of a number that is asked for it.
        of_word = self._wasmtime.Val.i32
        values = [of_word(value) if type(value) is int else value for value in arguments]
        return int(self._limited(name, lambda: self._functions[name](self._store, *values)))

    def _allocate(self, size: int) -> int:
        address = self.call("edge_alloc", size) & 0xFFFFFFFF
        if address == 0:
            raise GuestError(f"the guest has no {size} bytes of memory left")
        self._check_bounds(address, size)
        return address

    def _check_bounds(self, address: int, size: int) -> None:
        # The guest chose the address: it is checked like any other of its pointers.
        if address + size > self._memory.data_len(self._store):
            raise GuestError(f"the guest gave {size} bytes at {address}, outside its memory")

    def _limited(self, name: str, work: Any) -> Any:
        self._host.start_call()
        self._store.set_epoch_deadline(1)
        if self._config.fuel:
            self._store.set_fuel(self._config.fuel)
        self._watchdog.start(self._config.timeout_s)
        try:
            answer = work()
        except self._wasmtime.Trap as trap:
            raise self._describe(name, trap) from trap
        except self._wasmtime.WasmtimeError as error:
            raise GuestRefusedError(f"guest refused in {name}: {str(error)[:200]}") from error
        finally:
            self._watchdog.stop()
        if self._watchdog.is_over:
            raise self._timeout(name)
        return answer

    def _describe(self, name: str, trap: Any) -> GuestError:
        codes = self._wasmtime.TrapCode
        if trap.trap_code == codes.INTERRUPT:
            return self._timeout(name)
        if trap.trap_code == codes.OUT_OF_FUEL:
            return GuestFuelError(f"{name} used more than {self._config.fuel} units of fuel")
        kind = trap.trap_code.name.lower() if trap.trap_code is not None else str(trap)[:200]
        return GuestTrapError(f"guest trapped in {name}: {kind}")

    def _timeout(self, name: str) -> GuestError:
        return GuestTimeoutError(f"{name} took longer than {self._config.timeout_s} s")
