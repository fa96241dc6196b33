"""Data sets, and the reference profiles that drift is measured against."""

from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from registry.models.artifacts import Blob, Variant
from registry.models.catalogue import Model, Version


class DataSetKind(models.TextChoices):
    """What a data set is for."""

    EVALUATION = "evaluation", "Evaluation"
    CALIBRATION = "calibration", "Calibration"
    SAMPLES = "samples", "Samples"


class DataSet(models.Model):
    """An npz of preprocessed inputs and, where known, integer labels `y`; never changed."""

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(
        max_length=100, validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    )
    kind = models.CharField(max_length=12, choices=DataSetKind, default=DataSetKind.EVALUATION)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="datasets")
    rows = models.PositiveIntegerField()
    arrays = models.JSONField(default=dict, help_text="Name to data type and shape.")
    provenance = models.JSONField(
        default=dict, blank=True, help_text="What it was made from; empty for an upload."
    )
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-pk"]
        verbose_name = "data set"
        constraints = [
            models.UniqueConstraint(fields=["model", "name"], name="dataset_name_once_per_model"),
            models.CheckConstraint(condition=models.Q(rows__gte=1), name="dataset_has_rows"),
        ]

    def __str__(self) -> str:
        return f"{self.model}/{self.name}"


class Baseline(models.Model):
    """A reference profile; at most one is active for a version and for each of its variants."""

    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="baselines")
    variant = models.ForeignKey(
        Variant, null=True, blank=True, on_delete=models.PROTECT, related_name="baselines"
    )
    sha256 = models.CharField(max_length=64, help_text="Digest of the profile's canonical JSON.")
    profile = models.JSONField()
    source = models.CharField(max_length=200, help_text="The data set or window it came from.")
    reason = models.TextField(blank=True)
    actor = models.CharField(max_length=150, blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["variant"],
                condition=models.Q(is_active=True, variant__isnull=False),
                name="baseline_one_active_per_variant",
            ),
            models.UniqueConstraint(
                fields=["version"],
                condition=models.Q(is_active=True, variant__isnull=True),
                name="baseline_one_active_per_version",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} baseline {self.sha256[:12]}"
