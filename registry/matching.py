"""Which variant of a version fits a device best; pure.

A variant fits when the device has one of its providers, one of its architectures and one of its
instruction sets (none named means any), enough memory and a new enough runtime. Of those that fit:

1. What measurably loses over a point of accuracy more than the most accurate is passed over.
2. An accelerator goes before the CPU, and what names an architecture or instruction set before what
   does not: the time measured on the worker says little about either.
3. What is measurably over a tenth slower than the fastest of those left is passed over.
4. Fewer bytes go before more, newer before older.

What was not measured is passed over by no figure.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ACCURACY_SLACK_POINTS = 1.0
TIME_SLACK = 1.1


@dataclass(frozen=True)
class Candidate:
    """What matching needs to know of a variant.

    Attributes:
        drop_points: points of accuracy lost to the variant it was made of; None: not measured.
        speedup: how many times as fast as that one; None: not measured.
    """

    key: int
    requirements: Mapping[str, Any]
    size_bytes: int
    drop_points: float | None = None
    speedup: float | None = None


def pick_candidate(
    candidates: Iterable[Candidate], capabilities: Mapping[str, Any]
) -> Candidate | None:
    """The best fit, or None when no variant runs on the device."""
    fitting = [item for item in candidates if fits(item.requirements, capabilities)]
    if not fitting:
        return None
    drops = [item.drop_points for item in fitting if item.drop_points is not None]
    most = min(drops, default=0.0) + ACCURACY_SLACK_POINTS
    accurate = [item for item in fitting if item.drop_points is None or item.drop_points <= most]
    best = min(_class_of(item, capabilities) for item in accurate)
    alike = [item for item in accurate if _class_of(item, capabilities) == best]
    speeds = [item.speedup for item in alike if item.speedup is not None]
    least = max(speeds, default=0.0) / TIME_SLACK
    fast = [item for item in alike if item.speedup is None or item.speedup >= least]
    return min(fast, key=lambda item: (item.size_bytes, -item.key))


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
    # An agent that reports no instruction set gets what needs none.
    isa = requirements.get("isa") or []
    if isa and not set(isa) & set(capabilities.get("isa") or []):
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


def _class_of(item: Candidate, capabilities: Mapping[str, Any]) -> tuple[bool, bool]:
    usable = set(item.requirements.get("providers") or ["cpu"]) & set(
        capabilities.get("providers") or ["cpu"]
    )
    has_accelerator = bool(usable - {"cpu"})
    is_named = bool(item.requirements.get("arch") or item.requirements.get("isa"))
    return (not has_accelerator, not is_named)
