"""Which variant of a version fits a device best; pure.

A variant fits when the device has one of its providers, one of its architectures (none named means
any), enough memory and a new enough runtime. Of those that fit, the order is: an accelerator before
the CPU, a named architecture before any, fewer bytes before more, newer before older.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """What matching needs to know of a variant."""

    key: int
    requirements: Mapping[str, Any]
    size_bytes: int


def pick_candidate(
    candidates: Iterable[Candidate], capabilities: Mapping[str, Any]
) -> Candidate | None:
    """The best fit, or None when no variant runs on the device."""
    fitting = [item for item in candidates if fits(item.requirements, capabilities)]
    return min(fitting, key=lambda item: _rank(item, capabilities), default=None)


def fits(requirements: Mapping[str, Any], capabilities: Mapping[str, Any]) -> bool:
    """True when a device with these capabilities meets every requirement."""
    providers = requirements.get("providers") or []
    # An agent that reports nothing still has the CPU.
    available = capabilities.get("providers") or ["cpu"]
    if providers and not set(providers) & set(available):
        return False
    arch = requirements.get("arch") or []
    if arch and capabilities.get("arch") not in arch:
        return False
    if (requirements.get("min_memory_mb") or 0) > (capabilities.get("memory_mb") or 0):
        return False
    runtime = requirements.get("min_runtime") or ""
    return not runtime or version_key(capabilities.get("runtime_version") or "") >= version_key(
        runtime
    )


def version_key(text: str) -> tuple[int, ...]:
    """The numbers of a dotted version, for comparing; `1.10` is above `1.9`."""
    return tuple(int(number) for number in re.findall(r"\d+", text.split("+")[0])[:4])


def _rank(item: Candidate, capabilities: Mapping[str, Any]) -> tuple[bool, bool, int, int]:
    usable = set(item.requirements.get("providers") or ["cpu"]) & set(
        capabilities.get("providers") or ["cpu"]
    )
    has_accelerator = bool(usable - {"cpu"})
    is_named = bool(item.requirements.get("arch"))
    return (not has_accelerator, not is_named, item.size_bytes, -item.key)
