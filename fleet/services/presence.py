"""Keeps on record since when the server could be reached."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from fleet.models import ServerPresence
from fleet.polling.heard import last_heard
from fleet.rules.presence import Presence, longest_gap, look


@transaction.atomic
def note_presence(*, now: datetime) -> Presence:
    """The presence after this look; called by every tick."""
    row = ServerPresence.objects.select_for_update().first()
    before = None if row is None else Presence(row.seen_at, row.counted_from)
    gap = longest_gap(
        timedelta(seconds=settings.AVIARY_TICK_SECONDS),
        timedelta(seconds=settings.AVIARY_OFFER_TIMEOUT_SECONDS),
    )
    presence = look(before, now, gap=gap, heard_at=last_heard(now))
    ServerPresence.objects.update_or_create(
        id=1, defaults={"seen_at": presence.seen_at, "counted_from": presence.counted_from}
    )
    return presence
