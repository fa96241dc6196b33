"""What devices measured of a variant when they tried it."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q


class SelfTest(models.Model):
    """The last self-test of one variant on one device, passed or not."""

    device = models.ForeignKey("fleet.Device", on_delete=models.CASCADE, related_name="self_tests")
    variant = models.ForeignKey("registry.Variant", on_delete=models.CASCADE, related_name="+")
    installation = models.OneToOneField(
        "fleet.Installation", on_delete=models.CASCADE, related_name="self_test"
    )
    hardware = models.CharField(
        max_length=100, help_text="The device's hardware class then, else its processor."
    )
    isa = models.CharField(
        max_length=200, blank=True, help_text="Its instruction sets, sorted, by commas."
    )
    processor = models.CharField(max_length=100, blank=True)
    rows = models.PositiveIntegerField(help_text="Golden rows that were asked.")
    agreed = models.PositiveIntegerField(help_text="Answered as where the variant was made.")
    labelled = models.PositiveIntegerField(help_text="Rows whose right answer is known.")
    right = models.PositiveIntegerField()
    latency_ms = models.FloatField(null=True, help_text="Median of one row.")
    is_passed = models.BooleanField()
    measured_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["device", "variant"], name="fleet_selftest_one_per_variant"
            ),
            models.CheckConstraint(
                condition=Q(rows__gte=1)
                & Q(agreed__lte=F("rows"))
                & Q(labelled__lte=F("rows"))
                & Q(right__lte=F("labelled")),
                name="fleet_selftest_counts_fit",
            ),
        ]
        indexes = [
            models.Index(fields=["variant", "hardware", "isa"], name="fleet_selftest_class"),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} {self.variant_id} {self.agreed}/{self.rows}"
