"""What devices sent, as it arrived."""

from django.db import models

from ingest.querysets import InboxQuerySet


class InboxBatch(models.Model):
    """One acknowledged batch: its usable records in columns, compressed."""

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        DONE = "done", "Done"
        FAILED = "failed", "Set aside"

    MAX_ATTEMPTS = 5

    device = models.ForeignKey("fleet.Device", on_delete=models.CASCADE, related_name="+")
    batch_id = models.CharField(max_length=128)
    received_at = models.DateTimeField(db_index=True)
    payload = models.BinaryField(help_text="Columns of the records, MessagePack in zlib.")
    accepted = models.PositiveIntegerField()
    duplicates = models.PositiveIntegerField(default=0)
    rejected = models.JSONField(default=list, help_text="Index and reason of each bad record.")
    state = models.CharField(max_length=8, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=500, blank=True)
    retry_at = models.DateTimeField(
        null=True, blank=True, help_text="Not tried again before, after an attempt that failed."
    )
    aggregated_at = models.DateTimeField(null=True, blank=True)

    objects = InboxQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "inbox batches"
        constraints = [
            models.UniqueConstraint(fields=["device", "batch_id"], name="ingest_batch_once"),
            models.CheckConstraint(
                condition=models.Q(state__in=["pending", "done", "failed"]),
                name="ingest_batch_state_known",
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"], condition=models.Q(state="pending"), name="ingest_batch_pending"
            )
        ]

    def __str__(self) -> str:
        return f"{self.device_id}:{self.batch_id[:16]}"

    def answer(self) -> dict[str, object]:
        """What the device is told, now and every time it sends this batch again."""
        return {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
        }


class RejectedRecord(models.Model):
    """A record that broke a rule, kept so that a person can see why."""

    batch = models.ForeignKey(InboxBatch, on_delete=models.CASCADE, related_name="quarantined")
    index = models.PositiveIntegerField()
    reason = models.CharField(max_length=200)
    raw = models.TextField(blank=True, help_text="The record as it came, cut to 2,000 characters.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["batch", "index"], name="ingest_rejected_once")
        ]

    def __str__(self) -> str:
        return f"{self.batch_id}[{self.index}] {self.reason}"
