"""When the server was there for its devices."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class ServerPresence(models.Model):
    """The one row that says since when the server could be reached without a gap."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    seen_at = models.DateTimeField()
    counted_from = models.DateTimeField()

    class Meta:
        verbose_name_plural = "server presence"
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="fleet_server_presence_one_row")
        ]

    def __str__(self) -> str:
        return f"since {self.counted_from}"
