"""Inputs that devices sent, and the data sets people have made of them."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from registry.models import Blob, DataSet, Model
from registry.stratification import MAX_ROWS

MIN_CALIBRATION_ROWS = 1000


class SampleBatch(models.Model):
    """One npz of inputs that a device met and was allowed to send; unread until it is used."""

    device = models.ForeignKey("fleet.Device", on_delete=models.CASCADE, related_name="samples")
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="+")
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="sample_batches")
    manifest_sha256 = models.CharField(
        max_length=64, blank=True, help_text="Release that answered, where the device said."
    )
    size_bytes = models.PositiveIntegerField()
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "sample batches"
        constraints = [
            models.UniqueConstraint(
                fields=["device", "model", "blob"], name="fleet_samples_once_per_device"
            ),
        ]
        indexes = [
            models.Index(fields=["model", "received_at"], name="fleet_samples_model"),
            models.Index(fields=["received_at"], name="fleet_samples_age"),
        ]

    def __str__(self) -> str:
        return f"{self.device} {self.model} at {self.received_at:%Y-%m-%d %H:%M}"


class CalibrationBuild(models.Model):
    """One order to make a calibration set from fleet samples, and what became of it."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    ACTIVE_STATES = (State.QUEUED, State.RUNNING)

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=100, help_text="Of the data set to be made.")
    rows = models.PositiveIntegerField(
        default=2000,
        validators=[MinValueValidator(MIN_CALIBRATION_ROWS), MaxValueValidator(MAX_ROWS)],
        help_text=f"Wanted; at least {MIN_CALIBRATION_ROWS} must be there.",
    )
    selector = models.JSONField(
        default=dict, blank=True, help_text="Label to allowed values; empty takes every device."
    )
    since = models.DateTimeField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    keep_out = models.ForeignKey(
        DataSet,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Evaluation set whose rows must not be in it.",
    )
    seed = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    error = models.TextField(blank=True)
    dataset = models.ForeignKey(
        DataSet, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="done", dataset__isnull=False)
                | ~Q(state="done") & Q(dataset__isnull=True),
                name="fleet_build_done_has_dataset",
            ),
            models.UniqueConstraint(
                fields=["model", "name"],
                condition=Q(state__in=["queued", "running"]),
                name="fleet_build_one_active_per_name",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model}/{self.name}"
