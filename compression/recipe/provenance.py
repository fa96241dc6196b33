"""With what a variant was made, and the key under which a step's result is cached. Pure."""

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from compression.engine.training.requirement import engine_versions
from compression.recipe.parameters import PASSES
from compression.recipe.recipe import Recipe, Step

_LIBRARIES = ("onnx", "onnxruntime", "numpy")
# Raised when a pass changes what it writes for the same input and parameters.
PASSES_REVISION = 13
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def library_versions(recipe: Recipe | None = None) -> dict[str, str]:
    """Versions of the libraries that a variant depends on, those of training included."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    if recipe is not None and any(
        PASSES[step.name].trains or step.name == "search.best" for step in recipe.passes
    ):
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
            "revision": PASSES_REVISION,
        }
    )


def step_keys(
    source_sha256: str, recipe: Recipe, calibration_sha256: str | None, *, realm: str = ""
) -> list[str]:
    """The cache key of each pass: everything its output depends on, chained from the source.

    The chain makes a key depend on all passes before it, so all keys are known before the first
    pass runs.

    Args:
        realm: keys of one realm never meet those of another.
    """
    key = digest_json(
        {
            "source": source_sha256,
            "calibration": calibration_sha256,
            "allow_random": recipe.data.allow_random,
            "min_calibration": recipe.data.min_calibration,
            "seed": recipe.data.seed,
            "isa": recipe.target.isa,
            "libraries": library_versions(),
            "revision": PASSES_REVISION,
            **({"realm": realm} if realm else {}),
        }
    )
    keys = []
    for step in recipe.passes:
        parts = [key, step.name, step.parameters, _search_of(step, recipe)]
        if PASSES[step.name].trains:
            # The order of floating-point sums, and so the last bit, depends on the threads.
            parts.append({"engine": engine_versions(), "threads": recipe.limits.threads})
        key = digest_json(parts)
        keys.append(key)
    return keys


def _search_of(step: Step, recipe: Recipe) -> dict[str, Any] | None:
    document = recipe.to_json()
    if step.name == "mixed.search":
        return {"search": document["search"]}
    if step.name != "search.best":
        return None
    # What it judges by decides what it writes, and what is installed decides what it can try.
    sections = {name: document[name] for name in ("search", "gates", "target")}
    return {
        **sections,
        "evaluation": recipe.data.evaluation,
        "engine": engine_versions(),
        "threads": recipe.limits.threads,
    }
