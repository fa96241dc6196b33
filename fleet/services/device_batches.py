"""Many devices at once: known before they call, and labelled by a filter.

Each call has a most; what it does not take is named, and the call may be made again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from fleet.exceptions import (
    ConfirmationRequiredError,
    InvalidFleetInputError,
    ReasonRequiredError,
)
from fleet.foresight import Foresight, describe_assignment, identity_of
from fleet.models import Device
from fleet.polling.changes import announce_changes
from fleet.rules.assignment import assign
from fleet.selection import device_facts, matching
from fleet.selectors import read_plans
from fleet.services.devices import DEVICE_ID, check_labels
from registry.exceptions import AviaryError
from registry.services.audit import record_event

logger = logging.getLogger(__name__)

MOST_REGISTERED = 10_000
MOST_LABELLED = 50_000
CHUNK = 1000
#: Ids that an audit event names; the others are counted.
NAMED_IDS = 100


@dataclass(frozen=True)
class Registration:
    """What became of rows that were to be registered.

    Attributes:
        registered: ids that are known now, or would be.
        known: ids that were known before; they stay as they are.
        refused: rows that cannot be, each with its `index` from 0, `device_id` and `reason`.
    """

    registered: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)


def register_devices(
    *, rows: Sequence[Mapping[str, Any]], actor: str, is_dry_run: bool = False
) -> Registration:
    """Accepted devices that have not called yet; each still needs a join token to enrol.

    A row that cannot be stops no other.

    Args:
        rows: each with `device_id` and perhaps `labels`.

    Raises:
        InvalidFleetInputError: no row, or more than `MOST_REGISTERED`.
    """
    if not 1 <= len(rows) <= MOST_REGISTERED:
        raise InvalidFleetInputError(
            f"Expected 1 to {MOST_REGISTERED:,} devices; got {len(rows):,}"
        )
    found = Registration()
    wanted: dict[str, Device] = {}
    for index, row in enumerate(rows):
        try:
            device = _checked_row(row)
            if device.device_id in wanted:
                raise InvalidFleetInputError(f"{device.device_id} stands twice")
            wanted[device.device_id] = device
        except AviaryError as error:
            named = row.get("device_id") if isinstance(row, Mapping) else None
            found.refused.append(
                {"index": index, "device_id": str(named or "")[:128], "reason": error.message}
            )
    ids = set(wanted)
    known = set(Device.objects.filter(device_id__in=ids).values_list("device_id", flat=True))
    found.known.extend(sorted(known))
    found.registered.extend(sorted(ids - known))
    if is_dry_run or not found.registered:
        return found
    with transaction.atomic():
        # One that enrols at the same moment is known by then, and stays as it is.
        Device.objects.bulk_create(
            [wanted[name] for name in found.registered], batch_size=CHUNK, ignore_conflicts=True
        )
        record_event(
            actor=actor,
            action="device.registered_many",
            obj=None,
            summary=f"Registered {len(found.registered):,} devices",
            details={"count": len(found.registered), "first": found.registered[:NAMED_IDS]},
        )
    return found


def _checked_row(row: Any) -> Device:
    if not isinstance(row, Mapping):
        raise InvalidFleetInputError(f"Expected an object; got a {type(row).__name__}")
    unknown = sorted(set(row) - {"device_id", "labels"})
    if unknown:
        raise InvalidFleetInputError(f"Unknown field {unknown[0]!r:.80}")
    device_id = row.get("device_id")
    if not isinstance(device_id, str) or not DEVICE_ID.fullmatch(device_id):
        raise InvalidFleetInputError(
            "device_id: expected 1 to 128 letters, digits or . _ : -, the first a letter or digit"
        )
    labels = check_labels(row.get("labels") or {})
    return Device(device_id=device_id, labels=labels, status=Device.Status.ACCEPTED)


@dataclass(frozen=True)
class Labelling:
    """What a change of labels does, or would do.

    Attributes:
        devices: how many match the filter.
        changed: how many of them get other labels by it.
        effects: for each model, what accepted devices are moved from and to.
    """

    devices: int
    changed: int
    effects: list[Foresight]

    @property
    def moved(self) -> int:
        """Moves between releases in all."""
        return sum(effect.devices for effect in self.effects)


def label_devices(
    *,
    selector: Mapping[str, Sequence[str]],
    changes: Mapping[str, str | None],
    actor: str,
    reason: str,
    confirmed_devices: int | None = None,
    is_dry_run: bool = False,
) -> Labelling:
    """Sets labels of every device that the selector takes, and so moves devices between parts of
    the fleet.

    Args:
        changes: label to its new value, or None to take the label away.
        confirmed_devices: how many devices may be changed, as a dry run has said.

    Raises:
        InvalidFleetInputError: no selector, no change, or more than `MOST_LABELLED` devices.
        ReasonRequiredError: there is no reason.
        ConfirmationRequiredError: nothing was confirmed, or more devices match by now.
    """
    if not selector:
        raise InvalidFleetInputError("Name the devices by a selector; not all are meant")
    if not changes or not all(v is None or isinstance(v, str) for v in changes.values()):
        raise InvalidFleetInputError("set: expected labels, each with a text or null")
    check_labels({name: value or "" for name, value in changes.items()})
    with transaction.atomic():
        devices = Device.objects.filter(matching(selector)).order_by("pk")
        count = devices[: MOST_LABELLED + 1].count()
        if count > MOST_LABELLED:
            raise InvalidFleetInputError(
                f"More than {MOST_LABELLED:,} devices match; name fewer, and the others after them"
            )
        changed, effects = _label(devices, changes, is_dry_run=is_dry_run)
        found = Labelling(count, changed, effects)
        if is_dry_run or not changed:
            return found
        if not reason.strip():
            raise ReasonRequiredError("Labelling many devices at once needs a reason")
        if confirmed_devices is None or confirmed_devices < changed:
            raise ConfirmationRequiredError(
                f"{changed:,} devices would get other labels. Confirm {changed} devices.",
                {"devices": changed, "moves": describe_effects(effects)},
            )
        record_event(
            actor=actor,
            action="device.labelled_many",
            obj=None,
            summary=f"{changed:,} devices: labels changed, {found.moved:,} moves",
            details={
                "reason": reason,
                "selector": dict(selector),
                "set": dict(changes),
                "moves": describe_effects(effects),
            },
        )
        return found


def describe_effects(effects: Sequence[Foresight]) -> list[dict[str, Any]]:
    """The moves of all models as JSON."""
    return [{"model": effect.model, **row} for effect in effects for row in effect.rows()]


def _label(
    devices: QuerySet[Device], changes: Mapping[str, str | None], *, is_dry_run: bool
) -> tuple[int, list[Foresight]]:
    plans = read_plans()
    moves: dict[str, Counter[tuple[str, str]]] = {slug: Counter() for slug, _, _ in plans}
    changed: list[int] = []
    for part in _parts(devices, is_locked=not is_dry_run):
        rows = []
        for device in part:
            labels = {**device.labels}
            for name, value in changes.items():
                if value is None:
                    labels.pop(name, None)
                else:
                    labels[name] = value
            if labels == device.labels:
                continue
            check_labels(labels)
            before = [assign(plan, 0, device_facts(device, slug)) for slug, plan, _ in plans]
            device.labels = labels
            if device.status == Device.Status.ACCEPTED:
                for (slug, plan, _), old in zip(plans, before, strict=True):
                    new = assign(plan, 0, device_facts(device, slug))
                    if identity_of(old) != identity_of(new):
                        moves[slug][describe_assignment(old), describe_assignment(new)] += 1
            device.generation += 1
            rows.append(device)
        if not is_dry_run:
            Device.objects.bulk_update(rows, ["labels", "generation"])
        changed += [device.pk for device in rows]
    if not is_dry_run:
        transaction.on_commit(lambda: announce_changes([f"device:{pk}" for pk in changed]))
    return len(changed), [Foresight(slug, found) for slug, found in moves.items() if found]


def _parts(devices: QuerySet[Device], *, is_locked: bool) -> Iterator[list[Device]]:
    """The devices in the order of their keys, a thousand at a time."""
    after = 0
    while True:
        rows = devices.filter(pk__gt=after)
        part = list((rows.select_for_update() if is_locked else rows)[:CHUNK])
        if not part:
            return
        after = part[-1].pk
        yield part
