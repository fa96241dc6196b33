"""One loaded release: runs a batch and says what came out and how long it took.

This module imports numpy and the runtime; the agent imports it when the first model loads.
"""

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_agent.config import InferenceConfig
from edge_agent.exceptions import InferenceError, InputError
from edge_agent.inference.cache import ResultCache
from edge_agent.inference.latency import LatencyWindow
from edge_agent.inference.loading import open_session
from edge_agent.inference.result import Array, Result, keep
from edge_agent.reading.contract import ContractError
from edge_agent.reading.golden import to_input
from edge_agent.reading.inputs import choose_described
from edge_agent.reading.reader import Reader, contract_of
from edge_agent.releases.trust import Manifest

Inputs = Array | dict[str, Array]
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
}


class ImageProcessor(Protocol):
    """What turns a raw image into an answer by itself; the sandbox has one."""

    def takes(self, inputs: Inputs) -> bool:
        """True for a raw image, uint8 `[1, height, width, channels]`."""
        ...

    def check(self, image: Array) -> None:
        """Raises InputError when the image is not one that the model can be asked about."""
        ...

    def infer(self, image: Array) -> Result: ...


def make_resting(dtype: str, shape: tuple[Any, ...]) -> Array:
    """Zeros, or empty texts, of an input; 1 where it leaves a size free."""
    sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
    return np.full(sizes, "", object) if dtype == "str" else np.zeros(sizes, dtype)


class ModelSession:
    """An ONNX Runtime session with the manifest's reading of its outputs."""

    def __init__(
        self,
        model_path: Path,
        manifest: Manifest,
        config: InferenceConfig,
        *,
        cache: Path | None = None,
    ) -> None:
        """Loads the model.

        Args:
            cache: a folder for what the runtime and its providers make of the model on this device,
                keyed by digest.

        Raises:
            ProviderError: strict, and the requested provider would not run all of the graph.
            InferenceError: the runtime refuses the model, or its contract is none of it.
        """
        self.manifest = manifest
        self.config = config
        self.session, self.providers = open_session(model_path, config, manifest, cache)
        self.inputs = {
            node.name: (DTYPES.get(node.type, node.type), tuple(node.shape))
            for node in self.session.get_inputs()
        }
        """Dtype and shape by name; a dimension that is no number is free."""
        self.input_names = list(self.inputs)
        self.output_names = [node.name for node in self.session.get_outputs()]
        try:
            contract = contract_of(manifest.document, self.output_names)
            self.reader = Reader(contract, self.output_names, manifest.labels, config.top_k)
        except ContractError as error:
            raise InferenceError(f"its contract: {error}") from error
        self.has_classes = contract.has_classes
        self.described = choose_described(contract, self.input_names) if self.input_names else ""
        """The input whose features are recorded."""
        self.latency = LatencyWindow(config.latency_window)
        self.cache: ResultCache | None = None
        if config.cache_entries:
            self.cache = ResultCache(
                config.cache_entries, config.cache_ttl_s, release=manifest.digest
            )
        self.processor: ImageProcessor | None = None
        """Takes raw images, where the release has one and a caller has opened it."""
        self._run = self.session.run
        axes = contract.input_batch_axes
        self.resting = {
            name: make_resting(dtype, shape)
            for name, (dtype, shape) in self.inputs.items()
            if axes.get(name, 0) is None
        }
        """Inputs that belong to the call and may be left out: a state before anything happened."""
        self._has_texts = any(dtype == "str" for dtype, _ in self.inputs.values())

    def name_inputs(self, inputs: Inputs) -> dict[str, Array]:
        """The tensors by name; a bare one is the described input's."""
        named = inputs if isinstance(inputs, dict) else {self.described: inputs}
        return {**self.resting, **named} if self.resting else named

    def arrange(self, row: dict[str, Array]) -> Inputs:
        """A row of a data set as the model takes it.

        Args:
            row: by input, or `x` for the one that has rows: the row on axis 0; an input without
                rows has its own shape, or one more axis of 1.
        """
        if set(row) == {"x"} and "x" not in self.inputs:
            return row["x"] if len(self.inputs) == 1 else {self.described: row["x"]}
        axes = self.reader.contract.input_batch_axes
        if not axes and len(row) == 1:
            return next(iter(row.values()))
        found = {}
        for name, values in row.items():
            axis = axes.get(name, 0)
            if axis:
                values = np.moveaxis(values, 0, axis)
            elif axis is None and name in self.inputs and values.ndim > len(self.inputs[name][1]):
                values = values[0]
            found[name] = values
        return found

    def run(self, inputs: dict[str, Array]) -> tuple[list[Array], int]:
        """Outputs and nanoseconds: the bare run, timed and nothing else."""
        started = time.perf_counter_ns()
        outputs = self._run(self.output_names, inputs)
        elapsed = time.perf_counter_ns() - started
        self.latency.add(elapsed)
        return outputs, elapsed

    def infer(self, inputs: Inputs) -> Result:
        """Runs one sample.

        Args:
            inputs: the preprocessed tensor of the first input, or one per input name, with the
                batch axis; only the first row's scores are read. With a processor also one raw
                image, uint8 `[1, height, width, channels]`.

        Raises:
            InferenceError: the runtime failed, for example on a wrong shape.
        """
        cache = self.cache
        if cache is None or isinstance(inputs, dict) or inputs.dtype.kind == "O":
            # A key of texts would be where they lie in memory, and not what they say.
            return self._infer(inputs)
        key = cache.key(inputs)
        found = cache.get(key)
        if found is not None:
            return found
        result = self._infer(inputs)
        cache.put(key, keep(result))
        return result

    def check_inputs(self, inputs: Inputs) -> dict[str, Array]:
        """The tensors by name, when each is one that the model takes.

        Raises:
            InputError: a name, dtype or shape is wrong; the message has expected and got.
        """
        feed = self.name_inputs(inputs)
        if self.processor is not None and self.processor.takes(inputs):
            self.processor.check(feed[self.described])
            return feed
        if set(feed) != set(self.inputs):
            raise InputError(f"inputs: expected {self.input_names}, got {sorted(feed)}")
        for name, tensor in feed.items():
            dtype, shape = self.inputs[name]
            is_fitting = len(shape) == tensor.ndim and all(
                not isinstance(want, int) or want == got
                for want, got in zip(shape, tensor.shape, strict=True)
            )
            if not is_fitting or 0 in tensor.shape:
                expected = [want if isinstance(want, int) else "any" for want in shape]
                got = list(tensor.shape)
                raise InputError(f"input {name}: expected shape {expected}, got {got}")
            if tensor.dtype != dtype and not (dtype == "str" and tensor.dtype.kind in "OUS"):
                raise InputError(f"input {name}: expected dtype {dtype}, got {tensor.dtype}")
        return feed

    def takes_image(self, inputs: Inputs) -> bool:
        """True when `inputs` is a raw image that the release's processor takes."""
        return self.processor is not None and self.processor.takes(inputs)

    def _infer(self, inputs: Inputs) -> Result:
        if self.processor is not None and self.processor.takes(inputs):
            return self.processor.infer(inputs)  # type: ignore[arg-type]
        feed = self.name_inputs(inputs)
        if self._has_texts:
            feed = {name: to_input(array) for name, array in feed.items()}
        started = time.perf_counter_ns()
        try:
            outputs = self._run(self.output_names, feed)
        except Exception as error:
            raise InferenceError(str(error)[:300]) from error
        elapsed = time.perf_counter_ns() - started
        self.latency.add(elapsed)
        return Result(outputs, elapsed / 1e6, self.reader)
