"""Opens an ONNX Runtime session the way the settings ask for, and says what came of it."""

import hashlib
import logging
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from edge_agent.config import InferenceConfig
from edge_agent.config.provider_options import PROVIDERS
from edge_agent.exceptions import InferenceError, ProviderError
from edge_agent.inference.libraries import preload_cuda
from edge_agent.inference.providers import (
    CPU,
    DISABLE_FALLBACK,
    RECORD_ASSIGNMENT,
    SHORT,
    Fallback,
    Plan,
    ProviderReport,
    explain_absence,
    inspect_session,
    list_available,
    plan_providers,
)
from edge_agent.releases.trust import Manifest

logger = logging.getLogger(__name__)
NVIDIA = {row.runtime_name for row in PROVIDERS.values() if row.needs_nvidia_libraries}
WITHOUT_PATTERN = {row.runtime_name for row in PROVIDERS.values() if not row.has_memory_pattern}


def open_session(
    path: Path, config: InferenceConfig, manifest: Manifest, cache: Path | None
) -> tuple[Any, ProviderReport]:
    """A session of the model at `path`, and which providers run it.

    The runtime's own retry on the CPU is off: here each provider that fails is named and dropped.

    Args:
        cache: a folder for optimised graphs and what providers compile, or None for none.

    Raises:
        ProviderError: strict, and the requested providers would not run all of the graph.
        InferenceError: the runtime refuses the model, on the CPU too.
    """
    own = cache / manifest.digest if cache is not None else None
    plan, known = plan_providers(config, list_available(), cache=own)
    if NVIDIA & {name for name, _ in plan}:
        preload_cuda()
    session = None
    while session is None:
        try:
            session = load(path, config, plan, manifest, cache)
        except Exception as error:
            first = next((name for name, _ in plan if name != CPU), None)
            if first is None:
                raise InferenceError(f"{type(error).__name__}: {str(error)[:300]}") from error
            fallback = explain_absence(SHORT[first], said=str(error)[:300])
            if config.strict:
                raise blame(path, config, fallback) from error
            known.append(fallback)
            plan = [(name, options) for name, options in plan if name != first]
    report = inspect_session(session, config, known)
    for found in report.fallbacks:
        logger.warning("%s: %s: %s", found.provider, found.kind, found.detail)
    if config.strict and report.fallbacks:
        raise refuse(report.fallbacks[0])
    return session, report


def blame(path: Path, config: InferenceConfig, fallback: Fallback) -> Exception:
    """Whose fault a strict load's failure is: the model's when the CPU refuses it as well."""
    try:
        create(path, config, [(CPU, {})])
    except Exception as error:  # noqa: BLE001 the runtime raises its own kinds
        return InferenceError(f"{type(error).__name__}: {str(error)[:300]}")
    return refuse(fallback)


def refuse(fallback: Fallback) -> ProviderError:
    return ProviderError(f"{fallback.provider}: {fallback.kind}: {fallback.detail}")


def load(
    path: Path, config: InferenceConfig, plan: Plan, manifest: Manifest, cache: Path | None
) -> Any:
    """A session by `plan`; on the CPU from the optimised graph where one is kept."""
    is_cpu_only = [name for name, _ in plan] == [CPU]
    if cache is None:
        return create(path, config, plan)
    if not is_cpu_only:
        for name, _ in plan:
            if name != CPU:
                (cache / manifest.digest / SHORT[name]).mkdir(parents=True, exist_ok=True)
        return create(path, config, plan)
    has_external = manifest.file_of_role("external_data") is not None
    if not config.cache_optimised_graph or has_external:
        return create(path, config, plan)
    return load_optimised(path, config, plan, manifest.digest, cache)


def load_optimised(
    path: Path, config: InferenceConfig, plan: Plan, digest: str, cache: Path
) -> Any:
    """A session from the graph that the runtime optimised on this device before, or does now.

    The runtime loads damaged graphs without a word, so the file's own digest is in its name.
    """
    import onnxruntime

    head = f"{digest}-{onnxruntime.__version__}."
    for kept in cache.glob(f"{digest}-*.onnx"):
        expected = kept.name.removeprefix(head).removesuffix(".onnx")
        try:
            if digest_file(kept) == expected:
                return create(kept, config, plan, is_optimised=True)
        except Exception as error:  # noqa: BLE001 the cache must never stop a model
            logger.warning("%s: %s", kept.name, error)
        logger.warning("optimised graph of %s is damaged or of another runtime: removed", digest)
        kept.unlink(missing_ok=True)
    temporary = cache / f"{head}{os.getpid()}.tmp"
    try:
        session = create(path, config, plan, save_to=temporary)
        keep_optimised(temporary, cache / f"{head}{{}}.onnx")
    finally:
        temporary.unlink(missing_ok=True)
    return session


def keep_optimised(temporary: Path, pattern: Path) -> None:
    """Puts a graph in place under its digest; without it the next start is only slower."""
    try:
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, str(pattern).format(digest_file(temporary)))
    except OSError as error:
        logger.warning("optimised graph is not kept: %s", error)


def create(
    source: Path,
    config: InferenceConfig,
    plan: Plan,
    *,
    is_optimised: bool = False,
    save_to: Path | None = None,
) -> Any:
    """One try of the runtime, with its own fallback off."""
    import onnxruntime

    names = [name for name, _ in plan]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    spinning = "1" if config.allow_spinning else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    if config.providers != ("cpu",):
        options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
    if config.strict and CPU not in names:
        options.add_session_config_entry(DISABLE_FALLBACK, "1")
    if WITHOUT_PATTERN.intersection(names):
        options.enable_mem_pattern = False
    if is_optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    return onnxruntime.InferenceSession(str(source), options, providers=plan, enable_fallback=0)


def prune_cache(cache: Path, digests: Collection[str]) -> None:
    """Removes optimised graphs and compiled engines of releases other than `digests`."""
    for entry in cache.iterdir():
        digest = entry.name[:64]
        is_release = len(digest) == 64 and entry.suffix != ".cwasm"
        if not is_release or digest in digests:
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def digest_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
