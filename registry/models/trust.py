"""The files of the root of trust, as devices and python-tuf fetch them."""

from django.db import models


class TrustMetadata(models.Model):
    """One version of one TUF metadata file; never changed."""

    role = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    body = models.BinaryField()
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "trust metadata"
        constraints = [
            models.UniqueConstraint(fields=["role", "version"], name="trust_metadata_unique")
        ]

    def __str__(self) -> str:
        return f"{self.version}.{self.role}.json"
