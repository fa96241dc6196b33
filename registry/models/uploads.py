"""Bytes that are on their way in."""

import uuid

from django.db import models
from django.utils import timezone


class BlobUpload(models.Model):
    """An upload in parts that is not complete; one for each person and digest."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    part_bytes = models.PositiveIntegerField()
    storage_id = models.CharField(
        max_length=1024, blank=True, help_text="The object store's name of it."
    )
    created_by = models.CharField(max_length=150)
    touched_at = models.DateTimeField(default=timezone.now)
    claimed_until = models.DateTimeField(
        null=True, blank=True, help_text="While its parts are put together."
    )

    class Meta:
        ordering = ["touched_at"]
        constraints = [
            models.UniqueConstraint(fields=["sha256", "created_by"], name="blob_upload_once"),
            models.CheckConstraint(
                condition=models.Q(size_bytes__gt=0), name="blob_upload_has_bytes"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.size_bytes} bytes of sha256:{self.sha256[:12]}"

    @property
    def part_count(self) -> int:
        """Of parts; all but the last have `part_bytes`."""
        return -(-self.size_bytes // self.part_bytes)

    def part_size(self, number: int) -> int:
        """Bytes of the part `number`, counted from 1."""
        return min(self.part_bytes, self.size_bytes - (number - 1) * self.part_bytes)
