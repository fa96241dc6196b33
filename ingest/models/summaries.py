"""Counts that devices made themselves."""

from django.db import models

from ingest.models.windows import Cohort


class Summary(models.Model):
    """What a device says it has counted in one window, in its newest revision.

    A later revision takes the place of an earlier one, so that late, repeated and revised ones are
    counted once: a window is given what the newest says beyond what of it is counted already.
    """

    device = models.ForeignKey("fleet.Device", on_delete=models.CASCADE, related_name="+")
    source = models.CharField(
        max_length=64, help_text="Of the device's counting: another where it had to begin anew."
    )
    version = models.ForeignKey("registry.Version", on_delete=models.CASCADE, related_name="+")
    variant = models.ForeignKey(
        "registry.Variant", null=True, on_delete=models.CASCADE, related_name="+"
    )
    variant_key = models.BigIntegerField(default=0, help_text="Id of the variant, 0 for none.")
    told_start = models.BigIntegerField(
        help_text="Unix seconds at which the window starts by the device's clock."
    )
    start = models.DateTimeField(help_text="Of the window it is counted in.")
    cohort = models.CharField(
        max_length=8, choices=Cohort, help_text="When the window was first heard of."
    )
    revision = models.BigIntegerField()
    counts = models.JSONField(help_text="Of the newest revision.")
    counted = models.JSONField(null=True, help_text="What of it the window has.")
    is_pending = models.BooleanField(default=True)
    problem = models.CharField(max_length=500, blank=True)
    received_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "summaries"
        constraints = [
            models.UniqueConstraint(
                fields=["device", "source", "version", "variant_key", "told_start"],
                name="ingest_summary_once",
            )
        ]
        indexes = [
            models.Index(
                fields=["id"], condition=models.Q(is_pending=True), name="ingest_summary_pending"
            ),
            models.Index(fields=["received_at"], name="ingest_summary_age"),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} {self.version_id} {self.start:%Y-%m-%d %H:%M} r{self.revision}"
