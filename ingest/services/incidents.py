"""What people do about incidents, and the record of every change."""

import logging
from datetime import datetime, timedelta

from django.db import transaction

from ingest.announce import tell_incident
from ingest.exceptions import IncidentStateError, InvalidMuteError
from ingest.models import Incident, IncidentEvent
from registry.events import publish
from registry.services.audit import record_event

logger = logging.getLogger(__name__)
LONGEST_MUTE = timedelta(days=30)


def record_incident_event(
    incident: Incident,
    action: str,
    before: str,
    now: datetime,
    *,
    actor: str = "system",
    reason: str = "",
    has_numbers: bool = False,
) -> None:
    """One line of the incident's history; with its value and threshold where they matter."""
    IncidentEvent.objects.create(
        incident=incident,
        action=action,
        from_status=before,
        to_status=incident.status,
        actor=actor,
        reason=reason[:500],
        value=incident.value if has_numbers else None,
        threshold=incident.threshold if has_numbers else None,
        at=now,
    )
    publish(tell_incident(incident, action, actor, reason, now))
    logger.info("incident %s %s: %s", incident.pk, action, incident)


@transaction.atomic
def acknowledge_incident(
    *, incident_id: int, actor: str, now: datetime, reason: str = ""
) -> Incident:
    """The incident, marked as known to `actor`. It never unblocks a rollout.

    Raises:
        IncidentStateError: it is not firing.
    """
    incident = Incident.objects.select_for_update().get(pk=incident_id)
    before = incident.status
    if before == Incident.Status.ACKNOWLEDGED:
        return incident
    if before == Incident.Status.FIRING:
        incident.status = Incident.Status.ACKNOWLEDGED
    elif before != Incident.Status.NO_DATA:
        raise IncidentStateError(f"The incident is {before}; only a firing one is acknowledged.")
    incident.acknowledged_by, incident.acknowledged_at = actor, now
    incident.save()
    record_incident_event(incident, "acknowledged", before, now, actor=actor, reason=reason)
    record_event(
        actor=actor,
        action="incident.acknowledged",
        obj=incident,
        summary=f"Acknowledged: {incident}",
        details={"reason": reason},
    )
    return incident


@transaction.atomic
def mute_incident(
    *, incident_id: int, actor: str, reason: str, until: datetime, now: datetime
) -> Incident:
    """The incident, out of sight until `until`; it goes on being judged.

    Raises:
        InvalidMuteError: no reason, or an end that is past or more than 30 days away.
        IncidentStateError: it is over.
    """
    if not reason.strip():
        raise InvalidMuteError("A mute needs a reason.")
    if not now < until <= now + LONGEST_MUTE:
        raise InvalidMuteError(f"A mute ends within 30 days from now; got {until.isoformat()}.")
    incident = Incident.objects.select_for_update().get(pk=incident_id)
    if incident.status not in Incident.OPEN_STATUSES:
        raise IncidentStateError(f"The incident is {incident.status}; it cannot be muted.")
    incident.muted_until, incident.mute_reason = until, reason.strip()[:500]
    incident.save(update_fields=["muted_until", "mute_reason", "updated_at"])
    record_incident_event(
        incident, "muted", incident.status, now, actor=actor, reason=incident.mute_reason
    )
    record_event(
        actor=actor,
        action="incident.muted",
        obj=incident,
        summary=f"Muted until {until.isoformat()}: {incident}",
        details={"reason": incident.mute_reason},
    )
    return incident
