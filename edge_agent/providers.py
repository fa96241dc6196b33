"""Execution providers: which to ask for, and whether they are the ones that run.

ONNX Runtime falls back to the CPU in three ways, two of them without a word: the provider is not in
the installed build; its library fails to load; part of the graph is placed on the CPU.
"""

import ctypes
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.config import InferenceConfig
from edge_agent.exceptions import ProviderError

NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
    "rockchip": "RknpuExecutionProvider",
}
SHORT = {long: short for short, long in NAMES.items()}
DEFAULT_OPTIONS: dict[str, dict[str, str]] = {
    "tensorrt": {"trt_engine_cache_enable": "1", "trt_fp16_enable": "0"},
    "cuda": {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"},
}
RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
DISABLE_FALLBACK = "session.disable_cpu_ep_fallback"


@dataclass(frozen=True)
class Fallback:
    provider: str
    kind: str
    """`not_in_build`, `library_failed` or `partial`."""
    detail: str


@dataclass(frozen=True)
class ProviderReport:
    requested: tuple[str, ...]
    active: tuple[str, ...]
    nodes: dict[str, int] = field(default_factory=dict)
    """Graph nodes per provider, where the runtime tells."""
    fallbacks: tuple[Fallback, ...] = ()


def list_available() -> list[str]:
    """Short names of the providers in the installed build, in the runtime's order."""
    import onnxruntime

    return [SHORT.get(name, name) for name in onnxruntime.get_available_providers()]


def plan_providers(
    config: InferenceConfig, available: list[str]
) -> tuple[list[tuple[str, dict[str, str]]], list[Fallback]]:
    """What to hand to the runtime, and what of the request the build cannot do.

    In strict mode the CPU is listed only when asked for, since listing it permits the fallback.

    Raises:
        ProviderError: a name is unknown, or strict and not one provider is in the build.
    """
    unknown = [name for name in config.providers if name not in NAMES]
    if unknown:
        raise ProviderError(f"unknown providers {unknown}; known are {sorted(NAMES)}")
    missing = [
        Fallback(name, "not_in_build", f"the installed build has {', '.join(available)}")
        for name in config.providers
        if name not in available
    ]
    usable = [name for name in config.providers if name in available]
    if config.strict and missing and missing[0].provider == config.providers[0]:
        raise ProviderError(f"{missing[0].provider}: {missing[0].detail}")
    if not config.strict and "cpu" not in usable:
        usable.append("cpu")
    if not usable:
        raise ProviderError("not one requested provider is in the build")
    options = config.provider_options
    return [
        (NAMES[name], {**DEFAULT_OPTIONS.get(name, {}), **options.get(name, {})}) for name in usable
    ], missing


def inspect_session(
    session: Any, config: InferenceConfig, missing: list[Fallback]
) -> ProviderReport:
    """What runs, against what was asked for."""
    active = tuple(SHORT.get(name, name) for name in session.get_providers())
    nodes: dict[str, int] = {}
    try:
        for part in session.get_provider_graph_assignment_info():
            name = SHORT.get(part.ep_name, part.ep_name)
            nodes[name] = nodes.get(name, 0) + len(part.get_nodes())
    except Exception:  # noqa: BLE001 a runtime too old to record it, or one that did not
        nodes = {}
    fallbacks = list(missing)
    absent = {fallback.provider for fallback in missing}
    for name in config.providers:
        if name != "cpu" and name not in active and name not in absent:
            fallbacks.append(Fallback(name, "library_failed", explain_library(name)))
    first = next((name for name in config.providers if name in active), "cpu")
    elsewhere = sum(count for name, count in nodes.items() if name == "cpu")
    if first != "cpu" and elsewhere:
        total = sum(nodes.values())
        fallbacks.append(Fallback(first, "partial", f"{elsewhere} of {total} nodes run on the CPU"))
    return ProviderReport(config.providers, active, nodes, tuple(fallbacks))


def explain_library(name: str) -> str:
    """Why a provider's library does not load: the loader's own words, or what was not found."""
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "capi"
    stem = {"dml": "dml"}.get(name, name)
    candidates = sorted(folder.glob(f"libonnxruntime_providers_{stem}*"))
    if not candidates:
        return "the build names it, but ships no library for it"
    try:
        shared = folder / "libonnxruntime_providers_shared.so"
        if shared.exists():
            ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(candidates[0]))
    except OSError as error:
        match = re.match(r"(\S+): cannot open shared object file", str(error))
        return f"missing library {match[1]}" if match else str(error)[:300]
    return "its library loads, but the provider refused this model or found no device"
