"""What a device may say of itself, by type and size; pure.

These facts are stored and read at every poll, so what does not fit is refused when it is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fleet.exceptions import InvalidFleetInputError
from registry.manifest import is_sha256

MAX_CAPABILITIES_BYTES = 16 * 1024
MAX_MODELS = 64
"""Models that a device says it runs."""
MAX_NAME = 200
_TEXTS = ("arch", "agent_version", "runtime_version")
_LISTS = ("providers", "features", "isa")
_MAX_ENTRIES = 64
_MAX_MEMORY_MB = 2**40


def check_capabilities(value: Any) -> dict[str, Any]:
    """The capabilities as they may be kept; fields that this server does not know stay as they are.

    Raises:
        InvalidFleetInputError: a field of another type than the protocol's, or too much.
    """
    if not isinstance(value, Mapping):
        raise InvalidFleetInputError("capabilities: expected an object")
    for name in _TEXTS:
        text = value.get(name)
        if text is not None and not (isinstance(text, str) and len(text) <= MAX_NAME):
            raise InvalidFleetInputError(
                f"capabilities.{name}: expected a text of at most {MAX_NAME} characters"
            )
    for name in _LISTS:
        if value.get(name) is not None:
            _check_names(f"capabilities.{name}", value[name])
    memory = value.get("memory_mb")
    if memory is not None and not (
        isinstance(memory, int | float)
        and not isinstance(memory, bool)
        and 0 <= memory <= _MAX_MEMORY_MB
    ):
        raise InvalidFleetInputError("capabilities.memory_mb: expected a number of megabytes")
    size = len(json.dumps(value))
    if size > MAX_CAPABILITIES_BYTES:
        raise InvalidFleetInputError(
            f"capabilities: {size} bytes; at most {MAX_CAPABILITIES_BYTES} are taken"
        )
    return dict(value)


def check_running(value: Any) -> dict[str, str]:
    """Model to the manifest digest that a device says it runs; empty for what is no object.

    Raises:
        InvalidFleetInputError: too many models, a long name or something that is no digest.
    """
    if not isinstance(value, Mapping):
        return {}
    if len(value) > MAX_MODELS:
        raise InvalidFleetInputError(
            f"running: {len(value)} models; at most {MAX_MODELS} are taken"
        )
    for model, digest in value.items():
        if len(model) > MAX_NAME:
            raise InvalidFleetInputError(f"running: a name longer than {MAX_NAME} characters")
        if not isinstance(digest, str) or (digest and not is_sha256(digest)):
            raise InvalidFleetInputError(
                f"running.{model[:64]}: expected a manifest's SHA-256 in lower-case hex"
            )
    return dict(value)


def read_running(header: str) -> dict[str, str]:
    """The digest a device runs of each model: `"digits=ab…, faces=cd…"`, at most `MAX_MODELS`.

    What is malformed is left out, as in the header of one digest: the poll is answered all the
    same.
    """
    said = {}
    for part in header.split(",", MAX_MODELS)[:MAX_MODELS]:
        model, _, digest = part.strip().partition("=")
        if 0 < len(model) <= MAX_NAME and is_sha256(digest):
            said[model] = digest
    return said


def merge_running(known: Mapping[str, str], said: Mapping[str, str]) -> dict[str, str]:
    """What a device runs once it has said `said`; beyond the most, the oldest names go."""
    merged = {model: digest for model, digest in known.items() if model not in said} | dict(said)
    return dict(list(merged.items())[-MAX_MODELS:])


def _check_names(path: str, value: Any) -> None:
    if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
        raise InvalidFleetInputError(f"{path}: expected a list of at most {_MAX_ENTRIES} texts")
    for index, name in enumerate(value):
        if not isinstance(name, str) or len(name) > MAX_NAME:
            raise InvalidFleetInputError(
                f"{path}[{index}]: expected a text of at most {MAX_NAME} characters"
            )
