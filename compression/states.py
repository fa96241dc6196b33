"""The states of a job."""

from django.db import models


class JobState(models.TextChoices):
    """Where a job is; everything but the first two is final."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    PASSED = "passed", "Passed"
    FAILED_GATE = "failed_gate", "Failed a gate"
    COLLAPSED = "collapsed", "Collapsed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    TIMED_OUT = "timed_out", "Timed out"


ACTIVE_STATES = (JobState.QUEUED, JobState.RUNNING)
TERMINAL_STATES = tuple(state for state in JobState if state not in ACTIVE_STATES)
MEASURED_STATES = (JobState.PASSED, JobState.FAILED_GATE, JobState.COLLAPSED)
