"""The processor of a release: a guest module that turns raw images into the model's answer."""

import hashlib
import importlib.util
import time
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from edge_agent.config import SandboxConfig
from edge_agent.exceptions import GuestError, GuestRefusedError, InputError
from edge_agent.inference.result import Result
from edge_agent.inference.session import Inputs, ModelSession
from edge_agent.reading.reader import Reader
from edge_agent.reading.scores import Reading
from edge_agent.sandbox.compiled import CompiledCache
from edge_agent.sandbox.guest_instance import ACTIVATIONS, GuestModel
from edge_agent.sandbox.sandbox import Sandbox

PACKAGED_GUEST = "classify.wasm"


class ProcessedResult(Result):
    """A result whose scores are the guest's own reading."""

    __slots__ = ("tensor",)

    def __init__(
        self, outputs: list[Any], latency_ms: float, reader: Reader, scores: Reading
    ) -> None:
        super().__init__(outputs, latency_ms, reader)
        self._scores = scores
        self.tensor: np.ndarray[Any, Any] | None = None
        """What the guest made of the image for the model; None when it gave it nothing."""


class Processor:
    """The guest of one release; safe to use from several threads, one image at a time."""

    def __init__(self, session: ModelSession, sandbox: Sandbox) -> None:
        # Parts of the session, not the session: a circle would keep the old model in memory after a
        # swap until the collector finds it.
        self._reader, self._latency = session.reader, session.latency
        self._input_name, (dtype, self._shape) = next(iter(session.inputs.items()))
        self._sandbox = sandbox
        # A model of raw bytes gets its tensors as it always did: there would be no telling them.
        self._is_used = dtype != "uint8"

    def takes(self, inputs: Inputs) -> bool:
        return (
            self._is_used
            and isinstance(inputs, np.ndarray)
            and inputs.dtype == np.uint8
            and inputs.ndim == 4
            and len(inputs) == 1
        )

    def check(self, image: np.ndarray[Any, Any]) -> None:
        """Raises InputError when the image has other channels than the model."""
        if image.shape[3] != self._shape[1]:
            expected = f"[1, any, any, {self._shape[1]}]"
            raise InputError(f"image: expected shape {expected}, got {list(image.shape)}")

    def infer(self, image: np.ndarray[Any, Any]) -> ProcessedResult:
        """The answer to one raw image, uint8 `[1, height, width, channels]`.

        Its latency is all that the guest took, the model's run included.

        Raises:
            InputError: the image has other channels than the model.
            GuestError: the guest failed, hung or answered nonsense.
        """
        started = time.perf_counter_ns()
        answer = self._sandbox.run(image[0])
        elapsed = time.perf_counter_ns() - started
        self._latency.add(elapsed)
        scores = self._read(answer.hits)
        result = ProcessedResult(answer.outputs, elapsed / 1e6, self._reader, scores)
        result.tensor = answer.inputs.get(self._input_name)
        return result

    def _read(self, hits: list[tuple[int, float]]) -> Reading:
        if not hits:
            return Reading(None, None, ())
        labels = self._reader.labels
        top = tuple((i, labels[i] if i < len(labels) else str(i), p) for i, p in hits)
        return Reading(top[0][0], min(1.0, max(0.0, top[0][2])), top)

    def try_out(self) -> None:
        """Classifies a few images that a camera could send: black, white, noise of another size.

        Raises:
            GuestError: it fails on one of them.
        """
        channels, height, width = self._shape[1:]
        generator = np.random.default_rng(0)
        images = [
            np.zeros((1, height, width, channels), np.uint8),
            np.full((1, height, width, channels), 255, np.uint8),
            generator.integers(0, 256, (1, 2 * height + 1, 3 * width, channels), dtype=np.uint8),
        ]
        for image in images:
            if self.infer(image).class_id is None:
                raise GuestError("the guest answered no class")

    def compare(
        self,
        images: np.ndarray[Any, Any],
        classes: np.ndarray[Any, Any],
        confidences: np.ndarray[Any, Any] | None,
        rules: Mapping[str, float],
    ) -> None:
        """Classifies golden images, uint8 `[rows, height, width, channels]`.

        Args:
            classes, confidences: what the best hit of each row must be; None compares classes only.
            rules: `atol`, `rtol` and `min_fraction` of the manifest's golden vectors.

        Raises:
            GuestError: fewer than `min_fraction` of the rows are answered as they should be.
        """
        atol, rtol = rules.get("atol", 1e-3), rules.get("rtol", 1e-3)
        close = 0
        for index, class_id in enumerate(classes.tolist()):
            result = self.infer(images[index : index + 1])
            want = result.confidence if confidences is None else float(confidences[index])
            if result.class_id == class_id and result.confidence is not None and want is not None:
                close += abs(result.confidence - want) <= atol + rtol * abs(want)
        needed = rules.get("min_fraction", 1.0)
        if close < needed * len(classes):
            raise GuestError(f"{close} of {len(classes)} golden images agree; needed {needed:.4f}")


def open_processor(
    session: ModelSession, module: bytes, config: SandboxConfig, cache: CompiledCache | None
) -> Processor:
    """The guest `module`, started and bound to the session.

    Raises:
        GuestError: it does not start, or not with this model.
    """
    if importlib.util.find_spec("wasmtime") is None:
        raise GuestRefusedError("no wasmtime here: install aviary-edge-agent[wasm]")
    sandbox = Sandbox(module, session.session, config, cache=cache)
    sandbox.prepare(describe_model(session), top_k=session.config.top_k)
    return Processor(session, sandbox)


def read_packaged_guest() -> bytes:
    """The classifier that comes with this package.

    Raises:
        GuestRefusedError: its bytes are not the recorded ones.
    """
    folder = resources.files("edge_agent") / "guest"
    module = (folder / PACKAGED_GUEST).read_bytes()
    digest = hashlib.sha256(module).hexdigest()
    if f"{digest}  {PACKAGED_GUEST}" not in (folder / "SHA256SUMS").read_text().splitlines():
        raise GuestRefusedError(f"{PACKAGED_GUEST} has the unrecorded digest {digest}")
    return module


def describe_model(session: ModelSession) -> GuestModel:
    """What a guest is told of the session's model.

    Channels, height and width come from the input `[batch, channels, height, width]`; mean and
    deviation from the manifest's `preprocessing.mean` and `.std`, one number or one per channel.

    Raises:
        GuestRefusedError: the model is no classifier of images of a fixed size.
    """
    shape = session.session.get_inputs()[0].shape
    scores = session.session.get_outputs()[session.reader.index].shape
    sizes = [*shape[1:], *scores[-1:]]
    if len(session.input_names) != 1 or len(shape) != 4 or len(sizes) != 4:
        raise GuestRefusedError(f"a guest needs one input of 4 dimensions, got {shape}")
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise GuestRefusedError(f"a guest needs fixed sizes, got {shape} and {scores}")
    contract = session.reader.contract
    if contract.form != "scores":
        raise GuestRefusedError(f"a guest reads one score a class, not {contract.form}")
    if contract.activation not in ACTIVATIONS:
        raise GuestRefusedError(f"a guest knows no activation {contract.activation!r}")
    channels, height, width, classes = sizes
    preprocessing = session.manifest.document.get("preprocessing") or {}
    return GuestModel(
        channels=channels,
        height=height,
        width=width,
        classes=classes,
        activation=contract.activation,
        mean=_per_channel(preprocessing.get("mean"), channels, "mean"),
        deviation=_per_channel(preprocessing.get("std"), channels, "std"),
    )


def _per_channel(given: Any, channels: int, name: str) -> tuple[float, ...]:
    if given is None:
        return ()
    values = given if isinstance(given, list) else [given]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise GuestRefusedError(f"preprocessing.{name}: expected numbers, got {given}")
    if len(values) not in (1, channels):
        raise GuestRefusedError(
            f"preprocessing.{name}: expected 1 or {channels} numbers, got {len(values)}"
        )
    return tuple(float(v) for v in values) * (channels if len(values) == 1 else 1)
