"""The agent's own wheel, as this server hands it out."""

from __future__ import annotations

from django.db import models

from registry.models import Blob


class AgentWheel(models.Model):
    """One published build of the edge agent; the one published last is offered to new devices."""

    filename = models.CharField(max_length=128, unique=True)
    version = models.CharField(max_length=64)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="agent_wheels")
    published_by = models.CharField(max_length=150)
    published_at = models.DateTimeField()

    class Meta:
        ordering = ["-published_at", "-id"]

    def __str__(self) -> str:
        return self.filename
