"""Which events a rule is about."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

LEVELS = ("info", "warning", "critical")


@dataclass(frozen=True)
class Wanted:
    """What a rule asks for.

    Attributes:
        kinds: names of kinds, or `thing.*` for all of a thing; empty for every kind.
        models: slugs; empty for all, and for events that concern no model.
        level: the least level.
    """

    kinds: tuple[str, ...] = ()
    models: frozenset[str] = frozenset()
    level: str = "info"


def is_wanted(wanted: Wanted, *, kind: str, model: str, level: str) -> bool:
    """Whether the rule is about an event."""
    if LEVELS.index(level) < LEVELS.index(wanted.level):
        return False
    if wanted.models and model not in wanted.models:
        return False
    return not wanted.kinds or any(_fits(kind, pattern) for pattern in wanted.kinds)


def find_unknown(patterns: Iterable[str], known: Collection[str]) -> list[str]:
    """The patterns that fit no known kind."""
    return [pattern for pattern in patterns if not any(_fits(kind, pattern) for kind in known)]


def _fits(kind: str, pattern: str) -> bool:
    if pattern.endswith(".*"):
        return kind.startswith(pattern[:-1])
    return kind == pattern
