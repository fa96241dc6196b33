"""One loaded release: runs a batch and says what came out and how long it took."""

import logging
import os
import threading
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.cache import ResultCache, digest_input
from edge_agent.config import InferenceConfig
from edge_agent.exceptions import InferenceError, ProviderError
from edge_agent.files import FileLayer
from edge_agent.providers import (
    DISABLE_FALLBACK,
    RECORD_ASSIGNMENT,
    ProviderReport,
    inspect_session,
    list_available,
    plan_providers,
)
from edge_agent.state import Layout
from edge_agent.trust import Manifest

logger = logging.getLogger(__name__)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Result:
    outputs: list[Array]
    latency_ms: float
    class_id: int | None
    """None when the outputs are no scores, or not finite."""
    confidence: float | None
    top_k: list[tuple[int, str, float]]
    error: str = ""


class LatencyWindow:
    """The last `size` latencies, in nanoseconds, and their percentiles."""

    def __init__(self, size: int) -> None:
        self._values = array("q", bytes(8 * size))
        self._size = size
        self.count = 0

    def add(self, nanoseconds: int) -> None:
        self._values[self.count % self._size] = nanoseconds
        self.count += 1

    def stats(self) -> dict[str, float]:
        """Average and percentiles in ms; empty before the first latency."""
        kept = min(self.count, self._size)
        if not kept:
            return {}
        values = np.array(self._values[:kept], dtype=np.float64) / 1e6
        p50, p95, p99 = np.percentile(values, (50, 95, 99))
        return {
            "count": self.count,
            "avg_ms": round(float(values.mean()), 4),
            "p50_ms": round(float(p50), 4),
            "p95_ms": round(float(p95), 4),
            "p99_ms": round(float(p99), 4),
        }


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
            cache: a folder for the optimised graph, keyed by digest, runtime and providers.

        Raises:
            ProviderError: strict, and the requested provider would not run all of the graph.
            InferenceError: the runtime refuses the model.
        """
        self.manifest = manifest
        self.config = config
        post = manifest.document.get("postprocessing") or {}
        self.activation = post.get("activation", "softmax")
        self.session, self.providers = open_session(model_path, config, manifest, cache)
        self.input_names = [node.name for node in self.session.get_inputs()]
        self.output_names = [node.name for node in self.session.get_outputs()]
        scores = post.get("scores_output")
        self.scores_index = self.output_names.index(scores) if scores in self.output_names else 0
        self.labels = manifest.labels
        self.latency = LatencyWindow(config.latency_window)
        self._run = self.session.run
        entries = config.cache_entries
        self.cache = ResultCache(entries, config.cache_ttl_s) if entries else None

    def run(self, inputs: dict[str, Array]) -> tuple[list[Array], int]:
        """Outputs and nanoseconds: the bare run, timed and nothing else."""
        started = time.perf_counter_ns()
        outputs = self._run(self.output_names, inputs)
        elapsed = time.perf_counter_ns() - started
        self.latency.add(elapsed)
        return outputs, elapsed

    def infer(self, inputs: Array | dict[str, Array]) -> Result:
        """Runs one sample and reads its scores.

        Args:
            inputs: the preprocessed tensor of the first input, or one per input name, with the
                batch axis; only the first row's scores are read.

        Raises:
            InferenceError: the runtime failed, for example on a wrong shape.
        """
        if self.cache is None or isinstance(inputs, dict):
            return self._infer(inputs)
        key = digest_input(self.manifest.digest, inputs)
        result = self.cache.get(key)
        if result is None:
            result = self._infer(inputs)
            self.cache.put(key, result)
        return result

    def _infer(self, inputs: Array | dict[str, Array]) -> Result:
        feed = inputs if isinstance(inputs, dict) else {self.input_names[0]: inputs}
        try:
            outputs, elapsed = self.run(feed)
        except Exception as error:
            raise InferenceError(str(error)[:300]) from error
        return self.read(outputs, elapsed / 1e6)

    def read(self, outputs: list[Array], latency_ms: float) -> Result:
        scores = np.asarray(outputs[self.scores_index])
        scores = scores.reshape(len(scores), -1)[0] if scores.ndim > 1 else scores.reshape(-1)
        if not np.isfinite(scores).all():
            return Result(outputs, latency_ms, None, None, [], error="non_finite")
        chances = activate(scores.astype(np.float64), self.activation)
        order = np.argsort(-chances)[: self.config.top_k]
        top = [
            (int(i), self.labels[i] if i < len(self.labels) else str(i), float(chances[i]))
            for i in order
        ]
        best = top[0]
        return Result(outputs, latency_ms, best[0], min(1.0, max(0.0, best[2])), top)


class ModelSlot:
    """Where the running session of a model is found; swapping it drops no request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.session: ModelSession | None = None
        self.slug = ""

    def swap(self, session: ModelSession | None) -> ModelSession | None:
        """Puts `session` in place. A caller that holds the old one finishes with it."""
        with self._lock:
            old, self.session = self.session, session
        return old


def activate(scores: Array, activation: str) -> Array:
    """Probabilities from scores: `softmax`, `sigmoid` or `none`."""
    if activation == "softmax":
        powers = np.exp(scores - scores.max())
        return powers / powers.sum()
    if activation == "sigmoid":
        return 1.0 / (1.0 + np.exp(-np.clip(scores, -500, 500)))
    return scores


def open_session(
    path: Path, config: InferenceConfig, manifest: Manifest, cache: Path | None
) -> tuple[Any, ProviderReport]:
    import onnxruntime

    planned, missing = plan_providers(config, list_available())
    names = [name for name, _ in planned]
    is_cpu_only = names == ["CPUExecutionProvider"]

    def make(source: Path, save_to: Path | None) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config.intra_op_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        spinning = "1" if config.allow_spinning else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        if not is_cpu_only:
            options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
        if config.strict and "CPUExecutionProvider" not in names:
            options.add_session_config_entry(DISABLE_FALLBACK, "1")
        if source is not path:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if save_to is not None:
            options.optimized_model_filepath = str(save_to)
        return onnxruntime.InferenceSession(str(source), options, providers=planned)

    has_external = manifest.file_of_role("external_data") is not None
    cached = None
    if cache is not None and config.cache_optimised_graph and is_cpu_only and not has_external:
        cached = cache / f"{manifest.digest}-{onnxruntime.__version__}.onnx"
    try:
        if cached is not None and cached.exists():
            try:
                session = make(cached, None)
            except Exception:  # noqa: BLE001 the cache must never stop a model
                logger.warning("optimised graph of %s is unusable and removed", manifest.digest)
                cached.unlink(missing_ok=True)
                session = make(path, None)
        elif cached is not None:
            temporary = cached.with_suffix(f".{os.getpid()}.tmp")
            session = make(path, temporary)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, cached)
        else:
            session = make(path, None)
    except Exception as error:
        kind = ProviderError if config.strict and "fallback" in str(error) else InferenceError
        raise kind(f"{type(error).__name__}: {str(error)[:300]}") from error
    report = inspect_session(session, config, missing)
    for fallback in report.fallbacks:
        logger.warning("%s: %s: %s", fallback.provider, fallback.kind, fallback.detail)
    if config.strict and report.fallbacks:
        first = report.fallbacks[0]
        raise ProviderError(f"{first.provider}: {first.kind}: {first.detail}")
    return session, report


def place_files(manifest: Manifest, layout: Layout, files: FileLayer) -> Path:
    """The path to load the model from: its blob, or a bundle where its external data lie beside it.

    ONNX Runtime finds external data by name in the model's folder and refuses links out of it; hard
    links to the immutable blobs cost no space.
    """
    model = manifest.file_of_role("model")
    assert model is not None
    if manifest.file_of_role("external_data") is None:
        return layout.blob(model.sha256)
    folder = layout.bundles / manifest.digest
    for file in manifest.files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(layout.blob(file.sha256), target)
    return folder / model.path
