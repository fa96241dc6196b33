"""What brings devices back after the database was restored from a backup."""

from __future__ import annotations

import logging
from functools import partial

from django.db import transaction

from fleet.exceptions import InvalidFleetInputError
from fleet.models import Device, Plan
from fleet.polling.changes import announce_change
from registry.services.audit import record_event

logger = logging.getLogger(__name__)

#: More changes of one model's plan than any fleet makes between two backups.
JUMP = 1_000_000
MAX_JUMP = 10**12


@transaction.atomic
def raise_counters(*, actor: str, reason: str, by: int = JUMP) -> dict[str, int]:
    """Model slug to its counter after the raise.

    A device refuses an assignment whose counter is below the last one that it acted on. A restored
    database knows none of the later ones, so every counter is raised past all that can have been.
    Raising again is harmless.

    Args:
        by: 1 to a million million.
    """
    if not 1 <= by <= MAX_JUMP:
        raise InvalidFleetInputError(f"by: expected 1 to {MAX_JUMP}; got {by}", {"by": by})
    raised = {}
    for row in Plan.objects.select_for_update().select_related("model").order_by("pk"):
        row.counter += by
        row.save(update_fields=["counter", "updated_at"])
        raised[row.model.slug] = row.counter
    for slug in raised:
        transaction.on_commit(partial(announce_change, f"plan:{slug}"))
    record_event(
        actor=actor,
        action="counters.raised",
        obj=None,
        summary=f"The counters of {len(raised)} models were raised by {by}",
        details={"reason": reason, "counters": raised},
    )
    logger.warning("The counters of %s models were raised by %s", len(raised), by)
    return raised


def count_ahead() -> int:
    """Devices that last said they have acted on a later assignment than this server knows."""
    return Device.objects.filter(trouble__icontains="counter_replayed").count()
