"""What a release needs, and whether this device has it."""

import importlib.util
import platform
from dataclasses import dataclass

from edge_agent.control.client import read_memory_mb
from edge_agent.control.processor import read_instruction_sets
from edge_agent.exceptions import RequirementError
from edge_agent.inference.providers import list_available
from edge_agent.releases.trust import Manifest, parse_version


@dataclass(frozen=True)
class Abilities:
    """What this device has."""

    providers: tuple[str, ...]
    arch: str
    runtime: str
    """The version of ONNX Runtime."""
    memory_mb: int
    """0 where nobody can tell."""
    has_sandbox: bool
    isa: tuple[str, ...] = ()
    """Instruction sets; empty where nobody can tell."""


def has_sandbox() -> bool:
    """True when this installation has the runtime of guest modules; without loading it."""
    return importlib.util.find_spec("wasmtime") is not None


def read_abilities() -> Abilities:
    import onnxruntime

    return Abilities(
        providers=tuple(list_available()),
        arch=platform.machine(),
        runtime=onnxruntime.__version__,
        memory_mb=read_memory_mb(),
        has_sandbox=has_sandbox(),
        isa=tuple(read_instruction_sets()),
    )


def check_requirements(manifest: Manifest, abilities: Abilities) -> None:
    """Raises RequirementError, with expected and got, when the release cannot run here."""
    needs = manifest.document.get("requirements") or {}
    providers, arch = needs.get("providers") or [], needs.get("arch") or []
    if providers and not set(providers) & set(abilities.providers):
        raise RequirementError(f"needs one of {providers}, has {list(abilities.providers)}")
    if arch and abilities.arch not in arch:
        raise RequirementError(f"needs {arch}, this is {abilities.arch}")
    isa = needs.get("isa") or []
    if isa and not set(isa) & set(abilities.isa):
        raise RequirementError(
            f"needs one of the instruction sets {isa}, has {list(abilities.isa)}"
        )
    if manifest.file_of_role("processor") is not None and not abilities.has_sandbox:
        raise RequirementError("its processor needs wasmtime: install aviary-edge-agent[wasm]")
    min_memory_mb = int(needs.get("min_memory_mb") or 0)
    if 0 < abilities.memory_mb < min_memory_mb:
        raise RequirementError(f"needs {min_memory_mb} MB, has {abilities.memory_mb}")
    runtime = str(needs.get("min_runtime") or "0")
    if parse_version(abilities.runtime) < parse_version(runtime):
        raise RequirementError(f"needs runtime {runtime}, has {abilities.runtime}")
