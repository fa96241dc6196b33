"""Saved groups: kept, changed and removed with a word in the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db import IntegrityError, transaction

from fleet.exceptions import InvalidFleetInputError
from fleet.models import DeviceGroup
from fleet.services.deployments import check_selector
from registry.services.audit import record_event


@transaction.atomic
def save_group(
    *,
    name: str,
    selector: Mapping[str, Sequence[str]],
    actor: str,
    description: str = "",
    group_id: int | None = None,
) -> DeviceGroup:
    """A new group, or the one of `group_id` with these fields.

    Raises:
        InvalidFleetInputError: no selector, or a name that is taken.
    """
    checked = check_selector(selector)
    if not checked:
        raise InvalidFleetInputError(
            "A group's selector names at least one label; every device is in no group"
        )
    if group_id is None:
        group = DeviceGroup(created_by=actor)
    else:
        group = DeviceGroup.objects.select_for_update().get(pk=group_id)
    before = {"name": group.name, "selector": group.selector} if group_id else {}
    group.name, group.selector, group.description = name, checked, description
    try:
        with transaction.atomic():
            group.save()
    except IntegrityError as error:
        raise InvalidFleetInputError(f"The name {name!r} is taken by another group") from error
    record_event(
        actor=actor,
        action="group.changed" if group_id else "group.created",
        obj=group,
        summary=f"Group {name}",
        details={"before": before, "selector": checked},
    )
    return group


@transaction.atomic
def remove_group(*, group_id: int, actor: str) -> None:
    """Forgets the group; its devices and what they run stay as they are."""
    group = DeviceGroup.objects.select_for_update().get(pk=group_id)
    record_event(
        actor=actor,
        action="group.removed",
        obj=group,
        summary=f"Group {group.name} was removed",
        details={"selector": group.selector},
    )
    group.delete()
