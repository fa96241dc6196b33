"""Windows of many devices added up, and what devices' own tests said."""

from django.db import models

from ingest.models.windows import Cohort
from ingest.querysets import WindowQuerySet


class RollUp(models.Model):
    """A part of what the devices of one cell saw of one release in one span of time.

    Parts are only ever appended, so that counting locks nothing; what happened is the sum of all
    parts of a key. A sweep puts parts together.
    """

    version = models.ForeignKey("registry.Version", on_delete=models.CASCADE, related_name="+")
    variant = models.ForeignKey(
        "registry.Variant", null=True, on_delete=models.CASCADE, related_name="+"
    )
    cohort = models.CharField(max_length=8, choices=Cohort, default=Cohort.STABLE)
    cell = models.TextField(
        help_text="The values of the labels that slices are made by, as a JSON object."
    )
    start = models.DateTimeField()
    seconds = models.PositiveIntegerField()
    data = models.BinaryField(help_text="Counts by device or by random group of devices.")
    is_part = models.BooleanField(default=True, help_text="Not yet put together with others.")

    objects = WindowQuerySet.as_manager()

    class Meta:
        ordering = ["-start", "-id"]
        verbose_name = "roll-up"
        indexes = [
            models.Index(fields=["version", "start"], name="ingest_rollup_version"),
            models.Index(fields=["start"], name="ingest_rollup_start"),
            models.Index(
                fields=["id"], condition=models.Q(is_part=True), name="ingest_rollup_part"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version_id} {self.cell} {self.start:%Y-%m-%d %H:%M:%S}"


class DeviceTests(models.Model):
    """What the newest tests of a release's devices said, each of them against its own past."""

    version = models.ForeignKey("registry.Version", on_delete=models.CASCADE, related_name="+")
    variant_key = models.BigIntegerField(
        default=0, help_text="Id of the variant where the reference belongs to it alone; else 0."
    )
    period_end = models.DateTimeField()
    found = models.JSONField(help_text="Cell, p-value, whether it changed, and metrics, of each.")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "device tests"
        constraints = [
            models.UniqueConstraint(
                fields=["version", "variant_key"], name="ingest_device_tests_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.version_id} {self.period_end:%Y-%m-%d %H:%M}"
