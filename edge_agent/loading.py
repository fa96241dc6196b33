"""Opens an ONNX Runtime session the way the settings ask for."""

import logging
import os
from pathlib import Path
from typing import Any

from edge_agent.config import InferenceConfig
from edge_agent.exceptions import InferenceError, ProviderError
from edge_agent.providers import (
    DISABLE_FALLBACK,
    RECORD_ASSIGNMENT,
    ProviderReport,
    inspect_session,
    list_available,
    plan_providers,
)
from edge_agent.trust import Manifest

logger = logging.getLogger(__name__)


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
