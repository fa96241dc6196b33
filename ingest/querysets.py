"""Named sets of rows."""

from datetime import datetime
from typing import Any

from django.db import connection, models
from django.db.models import Q


class InboxQuerySet(models.QuerySet[Any]):
    """Batches by what is left to do with them."""

    def pending(self) -> "InboxQuerySet":
        """Not yet counted, oldest first."""
        return self.filter(state="pending").order_by("id")

    def set_aside(self) -> "InboxQuerySet":
        """Those that could not be counted and wait for a person."""
        return self.filter(state="failed")

    def claim(self, limit: int, now: datetime) -> "InboxQuerySet":
        """Up to `limit` pending batches whose time has come and that no other worker holds;
        inside a transaction only.

        Where the database cannot skip locked rows (SQLite), its single writer keeps others out.
        """
        skips = connection.features.has_select_for_update_skip_locked
        due = self.pending().filter(Q(retry_at__isnull=True) | Q(retry_at__lte=now))
        return due.select_for_update(skip_locked=skips)[:limit]


class WindowQuerySet(models.QuerySet[Any]):
    """Windows by time."""

    def between(self, start: datetime, end: datetime) -> "WindowQuerySet":
        """Windows that start in [start, end)."""
        return self.filter(start__gte=start, start__lt=end)


class IncidentQuerySet(models.QuerySet[Any]):
    """Incidents by whether somebody should care."""

    def open(self) -> "IncidentQuerySet":
        """Raised and not over, pending ones left out."""
        return self.filter(status__in=["firing", "acknowledged", "no_data"])
