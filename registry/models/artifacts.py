"""Bytes, and the ways to run a version that are made of them."""

from django.db import models
from django.utils import timezone


class FileRole(models.TextChoices):
    """What a file of a variant is for."""

    MODEL = "model", "Model"
    EXTERNAL_DATA = "external_data", "External data"
    LABELS = "labels", "Labels"
    PROCESSOR = "processor", "Processor"
    GOLDEN = "golden", "Golden vectors"
    BASELINE = "baseline", "Baseline"


class Blob(models.Model):
    """Bytes known by their digest, stored once whoever refers to them."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    size_bytes = models.BigIntegerField()
    stored_at = models.DateTimeField(default=timezone.now, help_text="When last uploaded.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(sha256__regex=r"^[0-9a-f]{64}$"), name="blob_sha256_is_hex"
            ),
            models.CheckConstraint(condition=models.Q(size_bytes__gte=0), name="blob_size_known"),
        ]

    def __str__(self) -> str:
        return f"sha256:{self.sha256[:12]}"


class Variant(models.Model):
    """One way to run a version, with its files and what it asks of a device."""

    version = models.ForeignKey(
        "registry.Version", on_delete=models.PROTECT, related_name="variants"
    )
    name = models.CharField(max_length=64)
    requirements = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    manifest_sha256 = models.CharField(
        max_length=64, unique=True, null=True, blank=True, help_text="The release's identity."
    )
    envelope = models.JSONField(default=dict, blank=True, help_text="The signed manifest.")
    is_promotable = models.BooleanField(default=True)
    provenance = models.JSONField(default=dict, blank=True)
    derived_from = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="derivatives"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["version", "name"], name="variant_name_once_per_version"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} {self.name}"


class VariantFile(models.Model):
    """One file of a variant: where it lies beside the others, and its bytes."""

    variant = models.ForeignKey(Variant, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=255)
    role = models.CharField(max_length=15, choices=FileRole)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="variant_files")

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["variant", "path"], name="file_path_once_per_variant"),
            models.UniqueConstraint(
                fields=["variant"],
                condition=models.Q(role="model"),
                name="file_one_model_per_variant",
            ),
        ]

    def __str__(self) -> str:
        return self.path
