"""With what a variant was made, and the key under which a step's result is cached. Pure."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compression.engine.training.requirement import engine_versions
from compression.recipe.passes import PASSES
from compression.recipe.recipe import Recipe
from compression.recipe.sources import module_identity, pass_identity

_LIBRARIES = ("onnx", "onnxruntime", "numpy")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def library_versions(recipe: Recipe | None = None) -> dict[str, str]:
    """Versions of the libraries that a variant depends on, those of training included."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    if recipe is not None and any("engine" in PASSES[step.name].reads for step in recipe.passes):
        versions |= engine_versions()
    return versions


def cpu_flags() -> list[str]:
    """The instruction sets of this machine that matter for INT8; empty where unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    present = set()
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            present.update(line.split(":", 1)[1].split())
            break
    return [flag for flag in _FLAGS if flag in present]


def cpu_model() -> str:
    """The processor's own name; the architecture where it is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def digest_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def code_identities(recipe: Recipe) -> dict[str, str]:
    """The digest of the code of each pass that a recipe names."""
    return {step.name: pass_identity(step.name) for step in recipe.passes}


def job_identity(source_manifest_sha256: str | None, recipe: Recipe) -> str:
    """Digest of all that a job's result depends on; jobs of equal identity give equal bytes.

    The recipe names data sets and model file by their SHA-256 already; the manifest adds what is
    signed around the file, and the version's name is left out.
    """
    document = recipe.to_json()
    document["source"] = {key: v for key, v in document["source"].items() if key != "version"}
    return digest_json(
        {
            "manifest": source_manifest_sha256,
            "recipe": document,
            "libraries": library_versions(recipe),
            "code": [code_identities(recipe), module_identity("compression.engine.run_recipe")],
        }
    )


def step_keys(
    source_sha256: str,
    recipe: Recipe,
    calibration_sha256: str | None,
    *,
    contract: Mapping[str, Any] | None = None,
    realm: str = "",
) -> list[str]:
    """The cache key of each pass: everything its output depends on, chained from the source.

    The chain makes a key depend on all passes before it, so all keys are known before the first
    pass runs.

    Args:
        contract: of the source's outputs, which says how rows are fed and how answers are judged.
        realm: keys of one realm never meet those of another.
    """
    key = digest_json(
        {
            "source": source_sha256,
            "libraries": library_versions(),
            # The graph is brought into the form the passes need before the first of them.
            "code": module_identity("compression.engine.passes.modernize"),
            **({"realm": realm} if realm else {}),
        }
    )
    keys = []
    for step in recipe.passes:
        reads = _read_values(recipe, calibration_sha256, contract or {}, PASSES[step.name].reads)
        key = digest_json([key, step.name, step.parameters, pass_identity(step.name), reads])
        keys.append(key)
    return keys


def _read_values(
    recipe: Recipe,
    calibration_sha256: str | None,
    contract: Mapping[str, Any],
    reads: frozenset[str],
) -> dict[str, Any]:
    """What each thing that a pass reads is in this recipe."""
    document = recipe.to_json()
    data, limits = document["data"], document["limits"]
    layout = [contract.get(name) for name in ("input_batch_axes", "batch_axis")]
    values: dict[str, Callable[[], Any]] = {
        # Without a set, rows are drawn from these.
        "calibration": lambda: [
            calibration_sha256,
            *(data[name] for name in ("allow_random", "min_calibration", "seed")),
            layout,
        ],
        "evaluation": lambda: [data["evaluation"], layout],
        "isa": lambda: document["target"]["isa"],
        "target": lambda: document["target"],
        "search": lambda: document["search"],
        "gates": lambda: document["gates"],
        "scoring": lambda: dict(contract),
        "limits": lambda: [limits["threads"], limits["memory_bytes"]],
        "engine": engine_versions,
        # Part of the identity of the code already.
        "passes": lambda: None,
    }
    return {name: values[name]() for name in sorted(reads)}
