"""Counts of what happened, by device, release and time."""

from django.db import models

from fleet.rules import assignment
from ingest.querysets import WindowQuerySet


class Cohort(models.TextChoices):
    """On which side of a rollout the device was."""

    STABLE = assignment.STABLE, "Stable"
    CANARY = assignment.CANARY, "Canary"
    CONTROL = assignment.CONTROL, "Control"


class Window(models.Model):
    """What one device saw of one release in one span of time; grows by addition only."""

    device = models.ForeignKey("fleet.Device", on_delete=models.CASCADE, related_name="+")
    version = models.ForeignKey("registry.Version", on_delete=models.CASCADE, related_name="+")
    variant = models.ForeignKey(
        "registry.Variant", null=True, on_delete=models.CASCADE, related_name="+"
    )
    variant_key = models.BigIntegerField(
        default=0, help_text="Id of the variant, 0 for none: NULLs never collide in a constraint."
    )
    cohort = models.CharField(max_length=8, choices=Cohort, default=Cohort.STABLE)
    start = models.DateTimeField()
    seconds = models.PositiveIntegerField()
    n = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    counts = models.JSONField(default=dict, help_text="Counts by bin and sums.")
    updated_at = models.DateTimeField(auto_now=True)

    objects = WindowQuerySet.as_manager()

    class Meta:
        ordering = ["-start", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["device", "version", "variant_key", "cohort", "start", "seconds"],
                name="ingest_window_once",
            ),
            models.CheckConstraint(
                condition=models.Q(errors__lte=models.F("n")), name="ingest_window_errors_in_n"
            ),
        ]
        indexes = [
            models.Index(fields=["version", "start"], name="ingest_window_version"),
            models.Index(fields=["start"], name="ingest_window_start"),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} {self.version_id} {self.start:%Y-%m-%d %H:%M:%S}"
