"""What devices themselves found wrong, from when it fired until it was resolved."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone


class DeviceIncidentQuerySet(models.QuerySet[Any]):
    """Incidents of devices by whether they are over."""

    def firing(self) -> DeviceIncidentQuerySet:
        """Reported and not over."""
        return self.filter(resolved_at__isnull=True)


class DeviceIncident(models.Model):
    """One thing that one device found wrong with itself or with what it meets."""

    class Kind(models.TextChoices):
        DRIFT = "drift", "Drift"
        RESOURCE = "resource", "Resource"

    device = models.ForeignKey("fleet.Device", on_delete=models.CASCADE, related_name="incidents")
    kind = models.CharField(max_length=8, choices=Kind)
    model_slug = models.CharField(
        max_length=100, blank=True, help_text="Of the model whose records drifted."
    )
    metric = models.CharField(max_length=100, help_text="The worst one when it fired.")
    value = models.FloatField(null=True, help_text="As last reported.")
    worst = models.FloatField(null=True, help_text="The value farthest past the threshold.")
    threshold = models.FloatField(null=True)
    manifest_sha256 = models.CharField(
        max_length=64, blank=True, help_text="Release that ran when it fired."
    )
    opened_at = models.DateTimeField(default=timezone.now)
    reported_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True, blank=True)

    objects = DeviceIncidentQuerySet.as_manager()

    class Meta:
        ordering = ["-opened_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["device", "kind", "model_slug", "metric"],
                condition=Q(resolved_at__isnull=True),
                name="fleet_device_incident_one_firing",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["drift", "resource"]), name="fleet_device_incident_kind_known"
            ),
        ]
        indexes = [
            models.Index(fields=["device", "-opened_at"], name="fleet_incident_device"),
            models.Index(
                fields=["kind", "device"],
                condition=Q(resolved_at__isnull=True),
                name="fleet_incident_firing",
            ),
        ]

    def __str__(self) -> str:
        subject = f" of {self.model_slug}" if self.model_slug else ""
        return f"{self.device}: {self.metric}{subject}"

    @property
    def is_firing(self) -> bool:
        """True until the device says that it is over."""
        return self.resolved_at is None
