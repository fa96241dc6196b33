"""What needs a person: rules that raise incidents, incidents and their history."""

from django.db import models
from django.db.models import Q
from django.urls import reverse

from ingest.querysets import IncidentQuerySet


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


class Incident(models.Model):
    """Something that went wrong and stayed wrong, from its first sign to its end."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        FIRING = "firing", "Firing"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        NO_DATA = "no_data", "No data"
        RESOLVED = "resolved", "Resolved"
        DROPPED = "dropped", "Dropped"

    OPEN_STATUSES = frozenset({Status.PENDING, Status.FIRING, Status.ACKNOWLEDGED, Status.NO_DATA})
    RAISED_STATUSES = frozenset({Status.FIRING, Status.ACKNOWLEDGED, Status.NO_DATA})
    TERMINAL_STATUSES = frozenset({Status.DROPPED})

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="incidents")
    model = models.ForeignKey("registry.Model", on_delete=models.CASCADE, related_name="incidents")
    version = models.ForeignKey("registry.Version", on_delete=models.CASCADE, related_name="+")
    variant_key = models.BigIntegerField(default=0)
    slice = models.CharField(max_length=200)
    metric = models.CharField(max_length=100)
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
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
            models.UniqueConstraint(
                fields=["rule", "version", "variant_key", "slice", "metric"],
                condition=Q(status__in=["pending", "firing", "acknowledged", "no_data"]),
                name="ingest_incident_one_open",
            ),
            models.CheckConstraint(
                condition=Q(muted_until__isnull=True) | ~Q(mute_reason=""),
                name="ingest_incident_mute_has_reason",
            ),
        ]
        indexes = [models.Index(fields=["status", "-id"], name="ingest_incident_status")]

    def __str__(self) -> str:
        return f"{self.metric} of {self.version} on {self.slice}"

    def get_absolute_url(self) -> str:
        return reverse("admin:ingest_incident_change", args=[self.pk])


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
