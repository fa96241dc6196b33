"""The audit chain: who did what, each row carrying the digest of the one before."""

from django.db import models

from registry.querysets import AppendOnlyQuerySet


class AuditEvent(models.Model):
    """One act of a person or of the system; never changed and never removed."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=100)
    object_type = models.CharField(max_length=100)
    object_id = models.CharField(max_length=100)
    summary = models.TextField()
    details = models.JSONField(default=dict)
    previous_digest = models.CharField(max_length=64, unique=True)
    digest = models.CharField(max_length=64, unique=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["object_type", "object_id"], name="audit_object_idx"),
            models.Index(fields=["action"], name="audit_action_idx"),
            models.Index(fields=["at"], name="audit_at_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action}"


class AuditHead(models.Model):
    """The one row that names the end of the chain; locked by whoever appends to it."""

    digest = models.CharField(max_length=64)
    count = models.BigIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(pk=1), name="audit_head_single_row")
        ]

    def __str__(self) -> str:
        return f"{self.count} events"
