"""Which deployments of one model compete for devices; pure, from their selectors alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A deployment's claim on devices; the higher (priority, id) wins where two match."""

    deployment_id: int
    name: str
    priority: int
    selector: Mapping[str, Sequence[str]]

    @property
    def rank(self) -> tuple[int, int]:
        """What decides between two claims on one device."""
        return self.priority, self.deployment_id


@dataclass(frozen=True)
class Shadow:
    """Another deployment that devices of this one may match, too.

    Attributes:
        is_above: the other wins those devices.
        is_whole: every device of the loser matches the winner, so it has none of its own.
    """

    other: Claim
    is_above: bool
    is_whole: bool


def may_meet(one: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]) -> bool:
    """True when a device could match both selectors."""
    return all(set(allowed) & set(other[name]) for name, allowed in one.items() if name in other)


def covers(wide: Mapping[str, Sequence[str]], narrow: Mapping[str, Sequence[str]]) -> bool:
    """True when every device that matches `narrow` matches `wide`."""
    return all(
        name in narrow and set(narrow[name]) <= set(allowed) for name, allowed in wide.items()
    )


def find_shadows(claim: Claim, others: Iterable[Claim]) -> list[Shadow]:
    """The others whose devices may be this one's, the strongest first."""
    found = []
    for other in others:
        if other.deployment_id == claim.deployment_id or not may_meet(
            claim.selector, other.selector
        ):
            continue
        is_above = other.rank > claim.rank
        winner, loser = (other, claim) if is_above else (claim, other)
        found.append(Shadow(other, is_above, covers(winner.selector, loser.selector)))
    return sorted(found, key=lambda shadow: shadow.other.rank, reverse=True)
