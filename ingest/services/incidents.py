"""Raises incidents from judgements, and records what people do about them."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction

from ingest.exceptions import IncidentStateError, InvalidMuteError
from ingest.models import AlertRule, DriftEvaluation, Incident, IncidentEvent
from ingest.rules import incident_rules as alerts
from registry.models import Model
from registry.services.audit import record_event

logger = logging.getLogger(__name__)
DEFAULT_RULE = "Any drift"
LONGEST_MUTE = timedelta(days=30)
IncidentKey = tuple[int, int, str, str]


def _rules(model: Model) -> list[AlertRule]:
    if not AlertRule.objects.exists():
        AlertRule.objects.get_or_create(name=DEFAULT_RULE)
    return list(AlertRule.objects.filter(is_enabled=True, model__isnull=True)) + list(
        AlertRule.objects.filter(is_enabled=True, model=model)
    )


@transaction.atomic
def observe_evaluations(
    *, model: Model, evaluations: Sequence[DriftEvaluation], now: datetime
) -> None:
    """Moves the incidents of `model` on by one window."""
    for rule in _rules(model):
        # The newest incident of each key is the one that a judgement may move on.
        latest: dict[IncidentKey, Incident] = {
            (row.version_id, row.variant_key, row.slice, row.metric): row
            for row in Incident.objects.select_for_update()
            .filter(rule=rule, model=model)
            .exclude(status=Incident.Status.DROPPED)
            .order_by("pk")
        }
        seen: set[IncidentKey] = set()
        for row in evaluations:
            if rule.metric not in ("", row.metric) or rule.slice not in ("", row.slice):
                continue
            key = (row.version_id, row.variant_key, row.slice, row.metric)
            seen.add(key)
            _step(rule, model, latest.get(key), row, _observation(rule, row), now)
        for key, incident in latest.items():
            if key not in seen and incident.status in Incident.OPEN_STATUSES:
                silent = alerts.Observation(None, incident.threshold or 0.0, False)
                _step(rule, model, incident, None, silent, now)


def _observation(rule: AlertRule, row: DriftEvaluation) -> alerts.Observation:
    if row.status in DriftEvaluation.UNJUDGED:
        return alerts.Observation(None, row.threshold or 0.0, False)
    is_critical = row.status == DriftEvaluation.Status.CRITICAL
    is_breach = is_critical or (
        row.status == DriftEvaluation.Status.WARNING and rule.level == AlertRule.Level.WARNING
    )
    threshold = row.threshold if rule.level == AlertRule.Level.WARNING else row.threshold_critical
    return alerts.Observation(row.value, threshold or 0.0, is_breach, is_critical)


def _track(incident: Incident | None) -> alerts.Track | None:
    if incident is None:
        return None
    return alerts.Track(
        status=alerts.Status(incident.status),
        recent=tuple(incident.recent),
        calm=incident.calm,
        is_critical=incident.severity == AlertRule.Level.CRITICAL,
        resolved_at=incident.resolved_at,
        before_no_data=(
            alerts.Status(incident.before_no_data) if incident.before_no_data else None
        ),
    )


def _step(
    rule: AlertRule,
    model: Model,
    incident: Incident | None,
    row: DriftEvaluation | None,
    seen: alerts.Observation,
    now: datetime,
) -> None:
    track, event = alerts.step_alert(_track(incident), seen, now)
    if track is None:
        return
    before = incident.status if incident else ""
    if incident is None or event is alerts.Event.OPENED:
        assert row is not None
        before = ""
        incident = Incident(
            rule=rule,
            model=model,
            version_id=row.version_id,
            variant_key=row.variant_key,
            slice=row.slice,
            metric=row.metric,
            opened_at=now,
        )
    incident.status = track.status
    incident.recent = list(track.recent)
    incident.calm = track.calm
    incident.before_no_data = track.before_no_data or ""
    incident.resolved_at = track.resolved_at
    if track.status is not alerts.Status.RESOLVED:
        level = AlertRule.Level
        incident.severity = level.CRITICAL if track.is_critical else level.WARNING
    if row is not None and seen.value is not None:
        incident.value, incident.threshold = seen.value, seen.threshold
        incident.evaluation = row
    if event in (alerts.Event.FIRED, alerts.Event.REOPENED):
        incident.fired_at = now
        incident.acknowledged_by, incident.acknowledged_at = "", None
    incident.save()
    if event is not None:
        _record(incident, str(event), before, now, value=seen.value, threshold=seen.threshold)


def _record(
    incident: Incident,
    action: str,
    before: str,
    now: datetime,
    *,
    actor: str = "system",
    reason: str = "",
    value: float | None = None,
    threshold: float | None = None,
) -> None:
    IncidentEvent.objects.create(
        incident=incident,
        action=action,
        from_status=before,
        to_status=incident.status,
        actor=actor,
        reason=reason,
        value=value,
        threshold=threshold,
        at=now,
    )
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
    if before == Incident.Status.NO_DATA:
        incident.before_no_data = Incident.Status.ACKNOWLEDGED
    elif before == Incident.Status.FIRING:
        incident.status = Incident.Status.ACKNOWLEDGED
    else:
        raise IncidentStateError(f"The incident is {before}; only a firing one is acknowledged.")
    incident.acknowledged_by, incident.acknowledged_at = actor, now
    incident.save()
    _record(incident, "acknowledged", before, now, actor=actor, reason=reason)
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
    _record(incident, "muted", incident.status, now, actor=actor, reason=incident.mute_reason)
    record_event(
        actor=actor,
        action="incident.muted",
        obj=incident,
        summary=f"Muted until {until.isoformat()}: {incident}",
        details={"reason": incident.mute_reason},
    )
    return incident
