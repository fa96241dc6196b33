"""Patches that spare a device most of a download."""

from django.db import models
from django.utils import timezone


class Delta(models.Model):
    """What makes one model file of another, asked for by who releases it, made in the background.

    The two files are named by digest and not by key: a delta must never keep a blob alive. Its own
    bytes are a blob that lives as long as this row.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        MAKING = "making", "Making"
        READY = "ready", "Ready"
        NOT_WORTH_IT = "not_worth_it", "Not worth it"
        FAILED = "failed", "Failed"

    MAX_ATTEMPTS = 3

    base_sha256 = models.CharField(max_length=64)
    target_sha256 = models.CharField(max_length=64)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    patch = models.ForeignKey(
        "registry.Blob", null=True, blank=True, on_delete=models.PROTECT, related_name="deltas"
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=300, blank=True)
    requested_at = models.DateTimeField(default=timezone.now, help_text="When last asked for.")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["base_sha256", "target_sha256"], name="delta_once_per_pair"
            ),
            models.CheckConstraint(
                condition=models.Q(state="ready", patch__isnull=False)
                | (~models.Q(state="ready") & models.Q(patch__isnull=True)),
                name="delta_ready_has_patch",
            ),
        ]
        indexes = [models.Index(fields=["state", "id"], name="delta_state")]

    def __str__(self) -> str:
        return f"{self.base_sha256[:12]} → {self.target_sha256[:12]}"
