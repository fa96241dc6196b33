"""Which jobs are which."""

from datetime import datetime

from django.db import models

from compression.states import MEASURED_STATES, JobState


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

    def to_send(self, *, made_before: datetime, sent_before: datetime) -> "JobQuerySet":
        """Queued, and no message names them that could still arrive; oldest first."""
        never = models.Q(sent_at=None, created_at__lt=made_before)
        waiting = self.queued().filter(never | models.Q(sent_at__lt=sent_before))
        return waiting.order_by("created_at")

    def measured(self) -> "JobQuerySet":
        """Ended with a report."""
        return self.filter(state__in=MEASURED_STATES, report__isnull=False)
