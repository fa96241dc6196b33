"""What needs a person: rules that raise incidents, incidents and their history."""

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.urls import reverse

from ingest.querysets import IncidentQuerySet
from registry.units import write_count


class AlertRule(models.Model):
    """Which judgements become incidents; an empty field matches all."""

    class Level(models.TextChoices):
        WARNING = "warning", "Warning"
        CRITICAL = "critical", "Critical"

    name = models.CharField(max_length=100, unique=True)
    model = models.ForeignKey(
        "registry.Model", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    metric = models.CharField(max_length=100, blank=True)
    slice = models.CharField(max_length=200, blank=True)
    level = models.CharField(
        max_length=8, choices=Level, default=Level.WARNING, help_text="Least level that counts."
    )
    is_enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class IncidentStatus(models.TextChoices):
    """Where an incident, or one of its findings, stands."""

    PENDING = "pending", "Pending"
    FIRING = "firing", "Firing"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    NO_DATA = "no_data", "No data"
    RESOLVED = "resolved", "Resolved"
    DROPPED = "dropped", "Dropped"


OPEN_STATUSES = frozenset({"pending", "firing", "acknowledged", "no_data"})


class Incident(models.Model):
    """One cause that went wrong and stayed wrong, from its first sign to its end.

    Its findings are the metrics and slices on which it shows. Slice and metric are those that
    tell it best: the smallest slice that explains the others.
    """

    Status = IncidentStatus
    OPEN_STATUSES = OPEN_STATUSES
    RAISED_STATUSES = frozenset({Status.FIRING, Status.ACKNOWLEDGED, Status.NO_DATA})
    TERMINAL_STATUSES = frozenset({Status.DROPPED})

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="incidents")
    model = models.ForeignKey("registry.Model", on_delete=models.CASCADE, related_name="incidents")
    version = models.ForeignKey("registry.Version", on_delete=models.CASCADE, related_name="+")
    variant_key = models.BigIntegerField(default=0)
    slice = models.CharField(max_length=200)
    metric = models.CharField(max_length=100)
    headline = models.CharField(max_length=300, blank=True, help_text="What is wrong, in words.")
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    severity = models.CharField(
        max_length=8, choices=AlertRule.Level, default=AlertRule.Level.WARNING
    )
    value = models.FloatField(null=True)
    threshold = models.FloatField(null=True)
    devices_changed = models.PositiveIntegerField(
        null=True, blank=True, help_text="Devices of the slice that differ from their own past."
    )
    devices_tested = models.PositiveIntegerField(null=True, blank=True)
    evaluation = models.ForeignKey(
        "ingest.DriftEvaluation", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    merged_into = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="The incident of the same cause that goes on in its place.",
    )
    onset_at = models.DateTimeField(
        null=True, blank=True, help_text="Start of the window in which it first showed."
    )
    opened_at = models.DateTimeField()
    joined_at = models.DateTimeField(
        null=True, blank=True, help_text="When the last finding joined."
    )
    fired_at = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    muted_until = models.DateTimeField(null=True, blank=True)
    mute_reason = models.CharField(max_length=500, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(muted_until__isnull=True) | ~Q(mute_reason=""),
                name="ingest_incident_mute_has_reason",
            ),
        ]
        indexes = [models.Index(fields=["status", "-id"], name="ingest_incident_status")]

    def __str__(self) -> str:
        return self.headline or f"{self.metric} of {self.version} on {self.slice}"

    def get_absolute_url(self) -> str:
        return reverse("admin:ingest_incident_change", args=[self.pk])

    @property
    def began_at(self) -> datetime:
        """When it first showed."""
        return self.onset_at or self.opened_at

    @property
    def devices_words(self) -> str:
        """How many of the tested devices differ from their own past; empty where none was."""
        if not self.devices_tested:
            return ""
        return f"{self.devices_changed} of {write_count(self.devices_tested, 'device')}"


class IncidentFinding(models.Model):
    """One metric of one slice on which an incident shows, with its memory between windows."""

    Status = IncidentStatus

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="findings")
    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="+")
    version = models.ForeignKey("registry.Version", on_delete=models.CASCADE, related_name="+")
    variant_key = models.BigIntegerField(default=0)
    slice = models.CharField(max_length=200)
    metric = models.CharField(max_length=100)
    status = models.CharField(max_length=12, choices=IncidentStatus, default=IncidentStatus.PENDING)
    severity = models.CharField(
        max_length=8, choices=AlertRule.Level, default=AlertRule.Level.WARNING
    )
    value = models.FloatField(null=True)
    threshold = models.FloatField(null=True)
    evaluation = models.ForeignKey(
        "ingest.DriftEvaluation", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    recent = models.JSONField(default=list, help_text="Whether each of the last windows breached.")
    calm = models.PositiveSmallIntegerField(default=0)
    before_no_data = models.CharField(max_length=12, blank=True)
    opened_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "version", "variant_key", "slice", "metric"],
                condition=Q(status__in=["pending", "firing", "acknowledged", "no_data"]),
                name="ingest_finding_one_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.metric} on {self.slice}"


class IncidentEvent(models.Model):
    """One change of an incident, with who, when, why and the numbers as they were."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="events")
    action = models.CharField(max_length=20)
    from_status = models.CharField(max_length=12, blank=True)
    to_status = models.CharField(max_length=12)
    actor = models.CharField(max_length=150, default="system")
    reason = models.CharField(max_length=500, blank=True)
    value = models.FloatField(null=True)
    threshold = models.FloatField(null=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.action} at {self.at:%Y-%m-%d %H:%M:%S}"
