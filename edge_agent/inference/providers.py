"""Execution providers: which to ask for, and whether they are the ones that run.

ONNX Runtime falls back to the CPU without an error when a provider is not in the installed build,
when its library fails to load, when it refuses the device or the model, and for each part of the
graph that it does not take.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.config import InferenceConfig
from edge_agent.config.provider_options import PROVIDERS, complete_options
from edge_agent.exceptions import ProviderError
from edge_agent.inference.libraries import explain_failure, find_provider_library

NAMES = {name: row.runtime_name for name, row in PROVIDERS.items()}
SHORT = {long: short for short, long in NAMES.items()}
CPU = NAMES["cpu"]
RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
DISABLE_FALLBACK = "session.disable_cpu_ep_fallback"
MAX_NAMED = 5
"""Nodes on the CPU that a report names."""


@dataclass(frozen=True)
class Fallback:
    provider: str
    kind: str
    """`not_in_build`, `library_failed`, `refused` or `partial`."""
    detail: str


@dataclass(frozen=True)
class ProviderReport:
    requested: tuple[str, ...]
    active: tuple[str, ...]
    nodes: dict[str, int] = field(default_factory=dict)
    """Graph nodes per provider; empty where the runtime does not tell, or only the CPU was asked
    for."""
    fallbacks: tuple[Fallback, ...] = ()

    def as_row(self) -> dict[str, Any]:
        """For telemetry and `status`."""
        return {
            "requested": list(self.requested),
            "active": list(self.active),
            "nodes": self.nodes,
            "fallbacks": [vars(fallback) for fallback in self.fallbacks],
        }


Plan = list[tuple[str, dict[str, str]]]


def list_available() -> list[str]:
    """Short names of the providers in the installed build, in the runtime's order."""
    import onnxruntime

    return [SHORT.get(name, name) for name in onnxruntime.get_available_providers()]


def plan_providers(
    config: InferenceConfig, available: Sequence[str], *, cache: Path | None = None
) -> tuple[Plan, list[Fallback]]:
    """What to hand to the runtime, and what of the request the build cannot do.

    In strict mode the CPU is listed only when asked for, since listing it permits the fallback.

    Args:
        cache: the release's own folder for what providers compile.

    Raises:
        ProviderError: a name is unknown, or strict and a requested provider is not in the build.
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
    if config.strict and missing:
        raise ProviderError(f"{missing[0].provider}: {missing[0].kind}: {missing[0].detail}")
    if not config.strict and "cpu" not in usable:
        usable.append("cpu")
    if not usable:
        raise ProviderError("not one provider is requested")
    plan = []
    for name in usable:
        options = complete_options(
            name,
            config.provider_options.get(name, {}),
            threads=config.intra_op_threads,
            cache=cache / name if cache else None,
        )
        plan.append((NAMES[name], options))
    return plan, missing


def inspect_session(
    session: Any, config: InferenceConfig, known: Sequence[Fallback]
) -> ProviderReport:
    """What runs, against what was asked for; `known` are the fallbacks found before the load."""
    active = tuple(SHORT.get(name, name) for name in session.get_providers())
    fallbacks = list(known)
    explained = {fallback.provider for fallback in known}
    for name in config.providers:
        if name != "cpu" and name not in active and name not in explained:
            fallbacks.append(explain_absence(name))
    nodes, on_cpu = count_nodes(session) if config.providers != ("cpu",) else ({}, [])
    first = next((name for name in config.providers if name in active), "cpu")
    if first != "cpu" and on_cpu:
        named = ", ".join(on_cpu[:MAX_NAMED]) + (", …" if len(on_cpu) > MAX_NAMED else "")
        detail = f"{len(on_cpu)} of {sum(nodes.values())} nodes run on the CPU: {named}"
        fallbacks.append(Fallback(first, "partial", detail))
    return ProviderReport(config.providers, active, nodes, tuple(fallbacks))


def count_nodes(session: Any) -> tuple[dict[str, int], list[str]]:
    """Nodes per provider, and those on the CPU as `name (operator)`.

    Both are empty where the runtime is older than the interface.
    """
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None:
        return {}, []
    nodes: dict[str, int] = {}
    on_cpu = []
    for part in tell():
        found = part.get_nodes()
        name = SHORT.get(part.ep_name, part.ep_name)
        nodes[name] = nodes.get(name, 0) + len(found)
        if name == "cpu":
            on_cpu += [f"{node.name or 'unnamed'} ({node.op_type})" for node in found]
    return nodes, on_cpu


def explain_absence(name: str, said: str = "") -> Fallback:
    """Why a provider of the build does not run, from its library or else from what was `said`."""
    library = find_provider_library(name)
    failure = explain_failure(library) if library else ""
    if failure:
        return Fallback(name, "library_failed", failure)
    return Fallback(name, "refused", said or "it loads, but found no device or refused the model")


def check_provider(name: str, available: Sequence[str]) -> str:
    """What stands in the way of `name` on this device before any model; empty for nothing."""
    if name not in available:
        return f"not in the build, which has {', '.join(available)}"
    library = find_provider_library(name)
    return explain_failure(library) if library else ""
