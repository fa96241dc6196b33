"""Versions that the server itself took back from devices, and the reason that using one needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fleet.exceptions import ReasonRequiredError
from fleet.models import RolloutEvent
from registry.models import Variant, Version


class TakenBack(NamedTuple):
    """A version of which some variants were taken back by a gate or by failing devices."""

    variants: frozenset[int]
    words: str


def find_taken_back(version_ids: Iterable[int]) -> dict[int, TakenBack]:
    """Version key to what the server took back of it and why; two queries and one prefetch each.

    A rollout that brings a variant and completes later clears that variant.
    """
    events = (
        RolloutEvent.objects.filter(rollout__target_version__in=list(version_ids))
        .filter(action__in=["abort", "complete"])
        .select_related("rollout")
        .prefetch_related("rollout__variants", "rollout__previous_variants")
        .order_by("id")
    )
    found: dict[int, dict[Variant, str]] = {}
    for event in events:
        rollout = event.rollout
        held = found.setdefault(rollout.target_version_id, {})
        before = set(rollout.previous_variants.all())
        for variant in rollout.variants.all():
            if event.action == "complete":
                held.pop(variant, None)
            elif event.evidence.get("is_automatic_undo") and variant not in before:
                held[variant] = f"rollout {rollout.pk} took it back: {event.reason}"
    return {
        version: TakenBack(frozenset(variant.pk for variant in held), _words(held))
        for version, held in found.items()
        if held
    }


def check_reason(version: Version, variants: Iterable[Variant], reason: str) -> None:
    """Nothing, when none of the variants was taken back or a reason says why it is used again.

    Raises:
        ReasonRequiredError: one was, and there is no reason.
    """
    if reason.strip():
        return
    said = find_taken_back([version.pk]).get(version.pk)
    if said is not None and said.variants & {variant.pk for variant in variants}:
        raise ReasonRequiredError(
            f"{version}: {said.words}; say why it is to be used again", {"reason": "required"}
        )


def _words(held: dict[Variant, str]) -> str:
    names: dict[str, list[str]] = {}
    for variant, words in held.items():
        names.setdefault(words, []).append(variant.name)
    return "; ".join(f"{', '.join(variants)}: {words}" for words, variants in names.items())
