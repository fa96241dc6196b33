"""Moves findings on by one window, and keeps one incident for each cause."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from fleet.models import Device, Installation
from ingest.models import AlertRule, DriftEvaluation, Incident, IncidentFinding
from ingest.models.incidents import IncidentStatus
from ingest.rules import incident_rules as alerts
from ingest.rules.causes import describe_breach, metric_rank, name_cause
from ingest.services.incidents import record_incident_event
from registry.models import Model

DEFAULT_RULE = "Any drift"
JOIN_WINDOWS = 3
MOVED_FIELDS = (
    "status", "recent", "calm", "before_no_data", "resolved_at", "severity", "value", "threshold",
    "evaluation",
)  # fmt: skip
FindingKey = tuple[int, int, str, str]


@dataclass(frozen=True)
class Scope:
    """What a release's evaluation knows beyond its rows, to tell causes apart.

    A cell is the devices that no slice tells apart.

    Attributes:
        members: the cells of each slice.
        is_breach: whether a metric is in breach for these cells alone.
        devices: how many devices each cell has.
        changed: how many of them differ from their own past.
        tested: how many of them were tested against it.
    """

    members: Mapping[str, Sequence[str]]
    is_breach: Callable[[Sequence[str], str], bool]
    devices: Mapping[str, int]
    changed: Mapping[str, int]
    tested: Mapping[str, int]

    def devices_in(self, cells: Collection[str]) -> int:
        """How many devices these cells have."""
        return sum(self.devices[cell] for cell in cells)


#: By version and key of the variant.
Scopes = Mapping[tuple[int, int], Scope]


def _rules(model: Model) -> list[AlertRule]:
    if not AlertRule.objects.exists():
        AlertRule.objects.get_or_create(name=DEFAULT_RULE)
    return list(AlertRule.objects.filter(is_enabled=True, model__isnull=True)) + list(
        AlertRule.objects.filter(is_enabled=True, model=model)
    )


@transaction.atomic
def observe_evaluations(
    *,
    model: Model,
    evaluations: Sequence[DriftEvaluation],
    now: datetime,
    scopes: Scopes | None = None,
) -> None:
    """Moves the findings and incidents of `model` on by one window."""
    for rule in _rules(model):
        _observe(rule, model, evaluations, scopes or {}, now)


def _observe(
    rule: AlertRule,
    model: Model,
    evaluations: Sequence[DriftEvaluation],
    scopes: Scopes,
    now: datetime,
) -> None:
    # The newest finding of each key is the one that a judgement may move on.
    latest: dict[FindingKey, IncidentFinding] = {
        (row.version_id, row.variant_key, row.slice, row.metric): row
        for row in IncidentFinding.objects.select_for_update(of=("self",))
        .filter(rule=rule, incident__model=model)
        .exclude(status=Incident.Status.DROPPED)
        .order_by("pk")
    }
    touched: set[int] = set()
    fresh: list[IncidentFinding] = []
    moved: list[IncidentFinding] = []
    seen: set[FindingKey] = set()
    for row in evaluations:
        if rule.metric not in ("", row.metric) or rule.slice not in ("", row.slice):
            continue
        key = (row.version_id, row.variant_key, row.slice, row.metric)
        seen.add(key)
        _step(rule, latest.get(key), row, _observation(rule, row), now, touched, fresh, moved)
    for key, finding in latest.items():
        if key not in seen and finding.status in Incident.OPEN_STATUSES:
            silent = alerts.Observation(None, finding.threshold or 0.0, False)
            _step(rule, finding, None, silent, now, touched, fresh, moved)
    IncidentFinding.objects.bulk_update(moved, MOVED_FIELDS)
    joined = _group(rule, model, fresh, evaluations, scopes, now)
    for incident in Incident.objects.select_for_update(of=("self",)).filter(
        pk__in=touched | set(joined)
    ):
        _refresh(incident, joined.get(incident.pk, []), scopes, now)


def _observation(rule: AlertRule, row: DriftEvaluation) -> alerts.Observation:
    if row.status in DriftEvaluation.UNJUDGED:
        return alerts.Observation(None, row.threshold or 0.0, False)
    is_critical = row.status == DriftEvaluation.Status.CRITICAL
    is_breach = is_critical or (
        row.status == DriftEvaluation.Status.WARNING and rule.level == AlertRule.Level.WARNING
    )
    threshold = row.threshold if rule.level == AlertRule.Level.WARNING else row.threshold_critical
    return alerts.Observation(row.value, threshold or 0.0, is_breach, is_critical)


def _track(finding: IncidentFinding | None) -> alerts.Track | None:
    if finding is None:
        return None
    return alerts.Track(
        status=alerts.Status(finding.status),
        recent=tuple(finding.recent),
        calm=finding.calm,
        is_critical=finding.severity == AlertRule.Level.CRITICAL,
        resolved_at=finding.resolved_at,
        before_no_data=alerts.Status(finding.before_no_data) if finding.before_no_data else None,
    )


def _step(
    rule: AlertRule,
    finding: IncidentFinding | None,
    row: DriftEvaluation | None,
    seen: alerts.Observation,
    now: datetime,
    touched: set[int],
    fresh: list[IncidentFinding],
    moved: list[IncidentFinding],
) -> None:
    track, event = alerts.step_alert(_track(finding), seen, now)
    if track is None:
        return
    if finding is None or event is alerts.Event.OPENED:
        assert row is not None
        finding = IncidentFinding(
            rule=rule,
            version_id=row.version_id,
            variant_key=row.variant_key,
            slice=row.slice,
            metric=row.metric,
            opened_at=now,
        )
        fresh.append(finding)
    else:
        touched.add(finding.incident_id)
    finding.status = track.status
    finding.recent = list(track.recent)
    finding.calm = track.calm
    finding.before_no_data = track.before_no_data or ""
    finding.resolved_at = track.resolved_at
    if track.status is not alerts.Status.RESOLVED:
        level = AlertRule.Level
        finding.severity = level.CRITICAL if track.is_critical else level.WARNING
    if row is not None and seen.value is not None:
        finding.value, finding.threshold = seen.value, seen.threshold
        finding.evaluation = row
    if finding.pk is not None:
        moved.append(finding)


def _group(
    rule: AlertRule,
    model: Model,
    fresh: Sequence[IncidentFinding],
    evaluations: Sequence[DriftEvaluation],
    scopes: Scopes,
    now: datetime,
) -> dict[int, list[IncidentFinding]]:
    """Gives each fresh finding its incident; incident id to what joined it."""
    joined: dict[int, list[IncidentFinding]] = {}
    for version_id in dict.fromkeys(finding.version_id for finding in fresh):
        new = [finding for finding in fresh if finding.version_id == version_id]
        scope = next((s for (version, _), s in scopes.items() if version == version_id), None)
        standing = list(
            Incident.objects.select_for_update(of=("self",))
            .filter(rule=rule, version_id=version_id, status__in=Incident.OPEN_STATUSES)
            .order_by("-pk")
        )
        left: list[IncidentFinding] = []
        for finding in new:
            incident = next((i for i in standing if _belongs(finding, i, scope, now)), None)
            if incident is None:
                left.append(finding)
            else:
                finding.incident = incident
                joined.setdefault(incident.pk, []).append(finding)
        if left:
            incident = _open(rule, model, left[0], now)
            for finding in left:
                finding.incident = incident
            joined.setdefault(incident.pk, []).extend(left)
    IncidentFinding.objects.bulk_create(fresh)
    return joined


def _open(rule: AlertRule, model: Model, first: IncidentFinding, now: datetime) -> Incident:
    window = timedelta(seconds=settings.AVIARY_WINDOW_SECONDS)
    return Incident.objects.create(
        rule=rule,
        model=model,
        version_id=first.version_id,
        variant_key=first.variant_key,
        slice=first.slice,
        metric=first.metric,
        onset_at=first.evaluation.period_end - window if first.evaluation else None,
        opened_at=now,
        joined_at=now,
    )


def _belongs(
    finding: IncidentFinding, incident: Incident, scope: Scope | None, now: datetime
) -> bool:
    """Whether the finding shows the incident's cause.

    It does when it starts within three windows of the incident's last finding. Later it does when
    the records it is judged by reach back to the incident's start and the incident's slice
    explains it: the other devices of the finding's slice are not in breach by themselves.
    """
    if now - (incident.joined_at or incident.opened_at) <= _join_span():
        return True
    names = incident.slice.split(", ")
    if finding.slice in names:
        return True
    if scope is None or finding.evaluation is None:
        return False
    inside = {cell for name in names for cell in scope.members.get(name, ())}
    theirs = scope.members.get(finding.slice, ())
    rest = [cell for cell in theirs if cell not in inside]
    if len(rest) == len(theirs):
        return False
    return not rest or not scope.is_breach(rest, finding.metric)


def _join_span() -> timedelta:
    """How far apart the beginnings of one cause's findings may lie."""
    return JOIN_WINDOWS * timedelta(seconds=settings.AVIARY_WINDOW_SECONDS)


def overall_status(statuses: Sequence[str], is_acknowledged: bool) -> IncidentStatus:
    """The status of an incident from those of its findings."""
    status = IncidentStatus
    if status.FIRING in statuses:
        return status.ACKNOWLEDGED if is_acknowledged else status.FIRING
    for one in (status.NO_DATA, status.PENDING, status.RESOLVED):
        if one in statuses:
            return one
    return status.DROPPED


def _refresh(
    incident: Incident, joined: Sequence[IncidentFinding], scopes: Scopes, now: datetime
) -> None:
    """The incident as its findings now make it, and the event where it changed."""
    findings = list(incident.findings.select_related("evaluation"))
    before, before_severity = incident.status, incident.severity
    is_new = not incident.headline and not incident.events.exists()
    statuses = [finding.status for finding in findings]
    incident.status = overall_status(statuses, incident.acknowledged_at is not None)
    is_back = before == Incident.Status.RESOLVED and incident.status != before
    if is_back and incident.status in Incident.RAISED_STATUSES:
        incident.acknowledged_by, incident.acknowledged_at = "", None
        incident.status = overall_status(statuses, False)
    live = [finding for finding in findings if finding.status in Incident.OPEN_STATUSES]
    breaching = [finding for finding in live if finding.recent and finding.recent[-1]]
    scope = scopes.get((incident.version_id, incident.variant_key)) or next(
        (s for (version, _), s in scopes.items() if version == incident.version_id), None
    )
    if joined:
        incident.joined_at = now
    # Later another cause may be added to what the older findings show; the name stays.
    if joined and now - incident.opened_at <= _join_span():
        incident.slice = _name(breaching or list(joined), scope)
    if breaching:
        _tell(incident, breaching, scope)
    levels = [finding.severity for finding in live]
    if levels:
        level = AlertRule.Level
        incident.severity = level.CRITICAL if level.CRITICAL in levels else level.WARNING
    is_over = incident.status in (Incident.Status.RESOLVED, Incident.Status.DROPPED)
    incident.resolved_at = now if is_over and before != incident.status else incident.resolved_at
    action = "opened" if is_new else _action(before, incident.status)
    if action in ("fired", "reopened"):
        incident.fired_at, incident.resolved_at = now, None
    if not action and incident.status in Incident.RAISED_STATUSES:
        worse = incident.severity != before_severity
        action = "escalated" if worse and incident.severity == AlertRule.Level.CRITICAL else ""
    incident.save()
    if action:
        before = "" if is_new else before
        record_incident_event(incident, action, before, now, has_numbers=True)
    if joined and not is_new:
        reason = ", ".join(str(finding) for finding in joined)
        record_incident_event(incident, "joined", incident.status, now, reason=reason)


def _action(before: str, after: str) -> str:
    status = IncidentStatus
    if before == after:
        return ""
    if after in (status.FIRING, status.ACKNOWLEDGED):
        if before == status.NO_DATA:
            return "data_back"
        return "reopened" if before == status.RESOLVED else "fired"
    return str(after)


def _name(breaching: Sequence[IncidentFinding], scope: Scope | None) -> str:
    breached: dict[str, list[str]] = {}
    for finding in breaching:
        breached.setdefault(finding.slice, []).append(finding.metric)
    if scope is None:
        return min(breached, key=lambda name: (name == "all", name))
    return name_cause(scope.members, breached, scope.is_breach, scope.devices_in)[:200]


def _tell(incident: Incident, breaching: Sequence[IncidentFinding], scope: Scope | None) -> None:
    """Leading metric, numbers and words of the incident."""
    names = incident.slice.split(", ")

    def order(finding: IncidentFinding) -> tuple[bool, int, float]:
        ratio = (finding.value or 0.0) / finding.threshold if finding.threshold else 0.0
        return finding.slice not in names, metric_rank(finding.metric), -ratio

    leading = min(breaching, key=order)
    incident.metric = leading.metric
    incident.variant_key = leading.variant_key
    incident.value, incident.threshold = leading.value, leading.threshold
    incident.evaluation = leading.evaluation
    details = leading.evaluation.details if leading.evaluation else {}
    words = describe_breach(leading.metric, incident.slice, leading.value, details)
    incident.headline = words[:300]
    if scope is not None:
        inside = {cell for name in names for cell in scope.members.get(name, ())}
        incident.devices_tested = sum(scope.tested.get(cell, 0) for cell in inside)
        incident.devices_changed = sum(scope.changed.get(cell, 0) for cell in inside)


@transaction.atomic
def close_unused_incidents(*, now: datetime) -> int:
    """Closes the open incidents of versions that no device runs; how many."""
    rows = Incident.objects.select_for_update(of=("self",)).filter(
        status__in=Incident.OPEN_STATUSES
    )
    closed = 0
    running: dict[int, bool] = {}
    for incident in rows.select_related("version__model"):
        if incident.version_id not in running:
            running[incident.version_id] = _is_run(incident)
        if running[incident.version_id]:
            continue
        before = incident.status
        incident.findings.filter(status__in=Incident.OPEN_STATUSES).update(
            status=Incident.Status.RESOLVED, resolved_at=now
        )
        incident.status, incident.resolved_at = Incident.Status.RESOLVED, now
        incident.save()
        reason = f"No device runs {incident.version.version} any more."
        record_incident_event(incident, "resolved", before, now, reason=reason)
        closed += 1
    return closed


def _is_run(incident: Incident) -> bool:
    """Whether a device says that it runs the version, or was given it and says nothing else."""
    slug = incident.version.model.slug
    digests = [
        digest
        for digest in incident.version.variants.values_list("manifest_sha256", flat=True)
        if digest
    ]
    if Device.objects.filter(**{f"running__{slug}__in": digests}).exists():
        return True
    silent = Q(device__running__isnull=True) | ~Q(device__running__has_key=slug)
    return (
        Installation.objects.filter(
            version_id=incident.version_id, state=Installation.State.COMMITTED
        )
        .filter(silent)
        .exists()
    )
