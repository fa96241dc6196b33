"""The manifest of a variant: pure rules, no database, no clock.

The rules, in the order they are checked:

1. `schema` is `aviary.manifest/1`; no unknown field.
2. Every path is relative, uses `/`, and has no empty, `.` or `..` part; no path appears twice,
   not even in another case.
3. Every file has a known role, a lower-case hexadecimal SHA-256 and a size of 0 bytes or more.
4. Exactly one file has the role `model`.
5. `golden`, when given, names a file of the role `golden` and sane tolerances.
6. `contract`, when given, is one, and names outputs of the graph.
7. `sequence` and `opset` are positive; `requirements` has its four fields, and `isa` where the
   variant needs an instruction set.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from registry.exceptions import ManifestInvalidError
from registry.reading.contract import ContractError, parse_contract

MANIFEST_SCHEMA = "aviary.manifest/1"
MANIFEST_TYPE = "application/vnd.aviary.manifest.v1+json"
MIN_AGENT_VERSION = "0.1.0"
CONTRACT_AGENT_VERSION = "0.2.0"
"""The first agent that reads contracts."""
ROLES = frozenset({"model", "external_data", "labels", "processor", "golden", "baseline"})
ACTIVATIONS = frozenset({"softmax", "sigmoid", "none"})
MAX_PATH_CHARACTERS = 255

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = frozenset(
    [
        "schema",
        "model",
        "version",
        "sequence",
        "variant",
        "task",
        "files",
        "inputs",
        "outputs",
        "opset",
        "labels",
        "preprocessing",
        "postprocessing",
        "requirements",
        "baseline_sha256",
        "golden",
        "min_agent_version",
    ]
)
# Absent where a version has none: such a manifest is the same, byte for byte, as before there were
# contracts.
_OPTIONAL_FIELDS = frozenset({"contract"})
_REQUIREMENTS: dict[str, Any] = {
    "providers": ["cpu"],
    "arch": [],
    "min_memory_mb": 0,
    "min_runtime": "",
}
# One of those named is enough. The field is absent where any processor will do, so that such a
# manifest is the same, byte for byte, as before there was the field.
ISA_NAMES = ("avx2", "avx512", "vnni", "neon", "dotprod", "i8mm")
_GOLDEN = {"atol": 1e-3, "rtol": 1e-3, "min_fraction": 1.0}


def canonical_bytes(obj: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no white space and no NaN: one value, one text.

    Raises:
        ManifestInvalidError: the value has NaN, an infinity or something that is not JSON.
    """
    try:
        text = json.dumps(
            obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ManifestInvalidError(f"The value has no canonical JSON: {error}") from error


def manifest_digest(payload: bytes) -> str:
    """Lower-case hexadecimal SHA-256 of the payload bytes: the release's identity."""
    return hashlib.sha256(payload).hexdigest()


def is_sha256(value: object) -> bool:
    """True for 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def check_path(path: object) -> str:
    """The path when it is safe below any folder of a device.

    Raises:
        ManifestInvalidError: absolute, with a back-slash, a drive, a control character, or an
            empty, `.` or `..` part.
    """
    if not isinstance(path, str) or not path or len(path) > MAX_PATH_CHARACTERS:
        raise ManifestInvalidError(
            f"A path has 1 to {MAX_PATH_CHARACTERS} characters; got {path!r}"
        )
    if "\\" in path or ":" in path or not path.isprintable():
        raise ManifestInvalidError(f"A path has no '\\', ':' or control character; got {path!r}")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ManifestInvalidError(
            f"A path is relative and has no empty, '.' or '..' part; got {path!r}"
        )
    return path


def complete_requirements(given: Mapping[str, Any]) -> dict[str, Any]:
    """The requirements with what was left out filled in.

    Raises:
        ManifestInvalidError: an unknown field, or a value of the wrong kind.
    """
    unknown = sorted(set(given) - set(_REQUIREMENTS) - {"isa"})
    if unknown:
        raise ManifestInvalidError(f"Unknown requirements: {', '.join(unknown)}")
    result = {**_REQUIREMENTS, **given}
    if result.get("isa") == []:
        del result["isa"]
    for field in ("providers", "arch", "isa"):
        if field not in result:
            continue
        value = result[field]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ManifestInvalidError(f"requirements.{field} is a list of texts; got {value!r}")
        result[field] = list(value)
    odd = sorted(set(result.get("isa", ())) - set(ISA_NAMES))
    if odd:
        raise ManifestInvalidError(
            f"requirements.isa has {', '.join(odd)}; known are {', '.join(ISA_NAMES)}"
        )
    memory = result["min_memory_mb"]
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 0:
        raise ManifestInvalidError(f"requirements.min_memory_mb is 0 or more; got {memory!r}")
    if not isinstance(result["min_runtime"], str):
        raise ManifestInvalidError(f"requirements.min_runtime is a text; got {memory!r}")
    return result


def complete_golden(path: str, tolerance: Mapping[str, float] | None) -> dict[str, Any]:
    """The `golden` field: the path with a tolerance, defaults filled in."""
    given = dict(tolerance or {})
    unknown = sorted(set(given) - set(_GOLDEN))
    if unknown:
        raise ManifestInvalidError(f"Unknown golden tolerances: {', '.join(unknown)}")
    return {"path": path, **_GOLDEN, **given}


def build_manifest(
    *,
    model: str,
    version: str,
    sequence: int,
    variant: str,
    task: str,
    files: Sequence[Mapping[str, Any]],
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
    opset: int,
    labels: Sequence[str] = (),
    preprocessing: Mapping[str, Any] | None = None,
    postprocessing: Mapping[str, Any] | None = None,
    contract: Mapping[str, Any] | None = None,
    requirements: Mapping[str, Any] | None = None,
    baseline_sha256: str | None = None,
    golden: Mapping[str, Any] | None = None,
    min_agent_version: str = MIN_AGENT_VERSION,
) -> dict[str, Any]:
    """A checked manifest; files are put in the order of their paths.

    Args:
        files: `{"path", "role", "sha256", "size_bytes"}` each.
        inputs, outputs: `{"name", "dtype", "shape"}` each; a dimension is a number or a name.
        contract: what the outputs mean (`registry/reading/contract.py`); None for no statement.
        golden: `{"path", "atol", "rtol", "min_fraction"}`; None when there are no vectors.

    Raises:
        ManifestInvalidError: one of the rules of this module is broken.
    """
    manifest = {
        "schema": MANIFEST_SCHEMA,
        "model": model,
        "version": version,
        "sequence": sequence,
        "variant": variant,
        "task": task,
        "files": sorted((dict(file) for file in files), key=lambda file: str(file.get("path"))),
        "inputs": [dict(item) for item in inputs],
        "outputs": [dict(item) for item in outputs],
        "opset": opset,
        "labels": list(labels),
        "preprocessing": dict(preprocessing or {}),
        "postprocessing": dict(postprocessing or {}),
        "requirements": complete_requirements(requirements or {}),
        "baseline_sha256": baseline_sha256,
        "golden": None if golden is None else dict(golden),
        "min_agent_version": min_agent_version,
    }
    if contract:
        manifest["contract"] = dict(contract)
        if not is_read_without_contract(contract):
            manifest["min_agent_version"] = CONTRACT_AGENT_VERSION
    check_manifest(manifest)
    return manifest


def is_read_without_contract(contract: Mapping[str, Any]) -> bool:
    """True where `postprocessing` says all of it: an older agent reads such outputs rightly."""
    return (
        contract["task"] == "classification"
        and contract["form"] == "scores"
        and contract.get("activation", "none") in ACTIVATIONS
        and set(contract) <= {"task", "form", "outputs", "activation"}
    )


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Returns when the manifest keeps every rule of this module.

    Raises:
        ManifestInvalidError: with the first rule that is broken.
    """
    if manifest.get("schema") != MANIFEST_SCHEMA:
        raise ManifestInvalidError(
            f"Expected schema {MANIFEST_SCHEMA}; got {manifest.get('schema')!r}"
        )
    if set(manifest) - _OPTIONAL_FIELDS != _FIELDS:
        odd = ", ".join(sorted((set(manifest) - _OPTIONAL_FIELDS) ^ _FIELDS))
        raise ManifestInvalidError(f"Missing or unknown fields: {odd}")
    for field in ("model", "version", "variant", "task", "min_agent_version"):
        if not isinstance(manifest[field], str) or not manifest[field]:
            raise ManifestInvalidError(f"{field} is a text; got {manifest[field]!r}")
    for field in ("sequence", "opset"):
        value = manifest[field]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ManifestInvalidError(f"{field} is a positive integer; got {value!r}")
    _check_files(manifest["files"])
    if manifest["baseline_sha256"] is not None and not is_sha256(manifest["baseline_sha256"]):
        raise ManifestInvalidError("baseline_sha256 is a SHA-256 or null")
    if manifest["golden"] is not None:
        _check_golden(manifest["golden"], manifest["files"])
    if set(manifest["requirements"]) - {"isa"} != set(_REQUIREMENTS):
        raise ManifestInvalidError("requirements has its four fields and may have isa")
    if "contract" in manifest:
        _check_contract(manifest["contract"], manifest["outputs"])
    activation = manifest["postprocessing"].get("activation")
    if activation is not None and activation not in ACTIVATIONS:
        raise ManifestInvalidError(
            f"activation is one of {sorted(ACTIVATIONS)}; got {activation!r}"
        )


def _check_contract(document: Any, outputs: Sequence[Mapping[str, Any]]) -> None:
    try:
        contract = parse_contract(document)
    except ContractError as error:
        raise ManifestInvalidError(f"contract: {error}") from error
    missing = set(contract.outputs.values()) - {item["name"] for item in outputs}
    if missing:
        raise ManifestInvalidError(f"contract names outputs that are none: {sorted(missing)}")


def _check_files(files: Sequence[Mapping[str, Any]]) -> None:
    seen: set[str] = set()
    for file in files:
        path = check_path(file.get("path"))
        # Folders on devices may not tell upper from lower case.
        if path.casefold() in seen:
            raise ManifestInvalidError(f"The path {path!r} appears twice")
        seen.add(path.casefold())
        if file.get("role") not in ROLES:
            raise ManifestInvalidError(f"Unknown role {file.get('role')!r} of {path!r}")
        if not is_sha256(file.get("sha256")):
            raise ManifestInvalidError(f"{path!r} has no lower-case hexadecimal SHA-256")
        size = file.get("size_bytes")
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise ManifestInvalidError(f"{path!r} has no size of 0 bytes or more; got {size!r}")
    models = sum(1 for file in files if file["role"] == "model")
    if models != 1:
        raise ManifestInvalidError(f"Exactly one file has the role model; got {models}")


def _check_golden(golden: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> None:
    if not any(file["path"] == golden.get("path") and file["role"] == "golden" for file in files):
        raise ManifestInvalidError(f"No golden file at {golden.get('path')!r}")
    for field in _GOLDEN:
        value = golden.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ManifestInvalidError(f"golden.{field} is a number; got {value!r}")
        if not math.isfinite(value) or value < 0:
            raise ManifestInvalidError(f"golden.{field} is finite and not negative; got {value!r}")
    if not 0 < golden["min_fraction"] <= 1:
        raise ManifestInvalidError("golden.min_fraction is above 0 and at most 1")
