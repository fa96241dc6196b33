"""What a change would do to devices, counted before it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from fleet.exceptions import ConfirmationRequiredError
from fleet.kinds import count_kinds
from fleet.polling.plans import build_plan
from fleet.rules.assignment import Assignment, assign
from fleet.selection import accepted_devices
from registry.units import write_count

NOTHING = "nothing new"


@dataclass(frozen=True)
class Foresight:
    """How many devices would be to run something else, from what to what.

    Attributes:
        moves: (from, to) in words such as `1.2.0 fp32` to a number of accepted devices.
    """

    model: str
    moves: Counter[tuple[str, str]]

    @property
    def devices(self) -> int:
        """Devices that would be moved in all."""
        return self.moves.total()

    def without_newcomers(self) -> Foresight:
        """The same without the devices that are to run nothing now."""
        kept = {move: n for move, n in self.moves.items() if move[0] != NOTHING}
        return Foresight(self.model, Counter(kept))

    def rows(self) -> list[dict[str, Any]]:
        """The moves as JSON, the most devices first."""
        return [
            {"devices": n, "from": before, "to": after}
            for (before, after), n in self.moves.most_common()
        ]

    def words(self) -> str:
        """The moves in a sentence."""
        if not self.moves:
            return f"No device is moved to another release of {self.model}."
        parts = [
            f"{write_count(row['devices'], 'device')} from {row['from']} to {row['to']}"
            for row in self.rows()
        ]
        return f"At once {'; '.join(parts)} of {self.model}."


def check_confirmed(effect: Foresight, confirmed_devices: int | None) -> None:
    """Nothing, when no device moves or a person has confirmed at least as many.

    Raises:
        ConfirmationRequiredError: its details say how many move, from what and to what.
    """
    if effect.devices and (confirmed_devices is None or confirmed_devices < effect.devices):
        raise ConfirmationRequiredError(
            f"{effect.words()} Confirm {write_count(effect.devices, 'device')}.",
            {"devices": effect.devices, "moves": effect.rows()},
        )


def foresee(model_id: int, change: Callable[[], object]) -> Foresight:
    """Makes the change, compares what every accepted device is to run, and takes it back.

    Raises:
        AviaryError: what the change itself refuses.
    """
    before = build_plan(model_id=model_id)
    with transaction.atomic():
        change()
        after = build_plan(model_id=model_id)
        transaction.set_rollback(True)
    moves: Counter[tuple[str, str]] = Counter()
    slug = before["model"]
    for facts, n in count_kinds(accepted_devices(), model=slug, plans=[before, after]):
        old, new = assign(before, 0, facts), assign(after, 0, facts)
        if identity_of(old) != identity_of(new):
            moves[describe_assignment(old), describe_assignment(new)] += n
    return Foresight(slug, moves)


def identity_of(assignment: Assignment | None) -> str | None:
    """What makes two assignments the same release; None for nothing."""
    return assignment.manifest_sha256 if assignment else None


def describe_assignment(assignment: Assignment | None) -> str:
    """A release in words such as `1.2.0 fp32`."""
    return f"{assignment.version} {assignment.variant}" if assignment else NOTHING
