"""Tables of compression."""

import uuid

from django.db import models
from django.urls import reverse
from django.utils import timezone

from compression.querysets import JobQuerySet
from compression.states import ACTIVE_STATES, TERMINAL_STATES, JobState


class Job(models.Model):
    """One run of a recipe on one version."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    version = models.ForeignKey(
        "registry.Version", on_delete=models.PROTECT, related_name="compression_jobs"
    )
    source_variant = models.ForeignKey(
        "registry.Variant", on_delete=models.PROTECT, related_name="compression_jobs"
    )
    calibration_dataset = models.ForeignKey(
        "registry.DataSet", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    evaluation_dataset = models.ForeignKey(
        "registry.DataSet", on_delete=models.PROTECT, related_name="+"
    )
    preset = models.CharField(max_length=40, blank=True, help_text="Empty for an own recipe.")
    variant_name = models.CharField(max_length=64, help_text="What the result is to be called.")
    recipe = models.JSONField(help_text="The complete compress/1 recipe.")
    identity = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        help_text="Digest of all that the result depends on; equal jobs give equal bytes.",
    )
    rerun_of = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="reruns",
        help_text="The job whose stored recipe this one runs again, without the step cache.",
    )
    state = models.CharField(max_length=12, choices=JobState, default=JobState.QUEUED)
    is_cancel_requested = models.BooleanField(default=False)
    progress = models.JSONField(default=dict, blank=True)
    log = models.JSONField(default=list, blank=True, help_text="The last events, oldest first.")
    report = models.JSONField(null=True, blank=True)
    result_variant = models.ForeignKey(
        "registry.Variant",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="made_by_jobs",
    )
    error = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    claim = models.UUIDField(null=True, blank=True, help_text="Which worker holds it.")
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    sent_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When a message last named it."
    )
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        permissions = [("cancel_job", "Can cancel a compression job")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=JobState.values), name="job_state_known"
            ),
            models.CheckConstraint(
                condition=models.Q(result_variant__isnull=True) | models.Q(state=JobState.PASSED),
                name="job_result_only_when_passed",
            ),
            models.CheckConstraint(
                condition=models.Q(finished_at__isnull=True) | models.Q(state__in=TERMINAL_STATES),
                name="job_finished_only_when_final",
            ),
        ]
        indexes = [
            models.Index(fields=["state", "heartbeat_at"], name="job_state_heartbeat_idx"),
            models.Index(fields=["version", "-created_at"], name="job_version_idx"),
            models.Index(fields=["identity"], name="job_identity_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.variant_name} ({str(self.pk)[:8]})"

    def get_absolute_url(self) -> str:
        return reverse("admin:compression_job_change", args=[self.pk])

    @property
    def is_active(self) -> bool:
        """Whether it can still be cancelled."""
        return self.state in ACTIVE_STATES


class StepResult(models.Model):
    """The output of one pass, kept so that the same work is not done twice."""

    key = models.CharField(max_length=64, primary_key=True)
    name = models.CharField(max_length=40)
    storage_name = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    notes = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    used_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["used_at"], name="step_used_at_idx")]

    def __str__(self) -> str:
        return f"{self.name} {self.key[:12]}"
