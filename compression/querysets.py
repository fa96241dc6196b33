"""Which jobs are which."""

from datetime import datetime

from django.db import models

from compression.states import JobState


class JobQuerySet(models.QuerySet):
    """Jobs by what should happen to them."""

    def queued(self) -> "JobQuerySet":
        """Waiting for a worker."""
        return self.filter(state=JobState.QUEUED)

    def running(self) -> "JobQuerySet":
        """Claimed by a worker."""
        return self.filter(state=JobState.RUNNING)

    def lost(self, heard_before: datetime) -> "JobQuerySet":
        """Running, but its worker has not been heard of since then."""
        return self.running().filter(heartbeat_at__lt=heard_before)
