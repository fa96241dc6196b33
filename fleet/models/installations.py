"""What each device did with what it was offered."""

from __future__ import annotations

from django.db import models

from fleet.rules.assignment import STABLE


class Installation(models.Model):
    """One offer of one release to one device, and how far it got."""

    class State(models.TextChoices):
        OFFERED = "offered", "Offered"
        DOWNLOADING = "downloading", "Downloading"
        VERIFIED = "verified", "Verified"
        TRIAL = "trial", "Trial"
        TIMED_OUT = "timed_out", "Timed out"
        INCOMPATIBLE = "incompatible", "Incompatible"
        CANCELLED = "cancelled", "Cancelled"
        FAILED = "failed", "Failed"
        COMMITTED = "committed", "Committed"
        ROLLED_BACK = "rolled_back", "Rolled back"
        REGRESSED = "regressed", "Regressed"

    IN_FLIGHT_STATES = frozenset({State.OFFERED, State.DOWNLOADING, State.VERIFIED, State.TRIAL})
    FAILED_STATES = frozenset({State.FAILED, State.ROLLED_BACK, State.TIMED_OUT, State.REGRESSED})

    device = models.ForeignKey(
        "fleet.Device", on_delete=models.CASCADE, related_name="installations"
    )
    model = models.ForeignKey("registry.Model", on_delete=models.CASCADE, related_name="+")
    version = models.ForeignKey("registry.Version", on_delete=models.PROTECT, related_name="+")
    variant = models.ForeignKey("registry.Variant", on_delete=models.PROTECT, related_name="+")
    manifest_sha256 = models.CharField(max_length=64)
    deployment = models.ForeignKey(
        "fleet.Deployment", null=True, on_delete=models.SET_NULL, related_name="installations"
    )
    rollout = models.ForeignKey(
        "fleet.Rollout", null=True, on_delete=models.SET_NULL, related_name="installations"
    )
    stage_index = models.PositiveSmallIntegerField(null=True)
    cohort = models.CharField(max_length=16, default=STABLE)
    assignment_id = models.CharField(max_length=160)
    counter = models.PositiveBigIntegerField()
    state = models.CharField(max_length=16, choices=State, default=State.OFFERED)
    code = models.CharField(max_length=64, blank=True)
    detail = models.TextField(blank=True)
    last_seq = models.BigIntegerField(default=-1)
    attempts = models.PositiveIntegerField(default=0, help_text="Failed attempts reported.")
    offered_at = models.DateTimeField()
    updated_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["device", "assignment_id"], name="fleet_installation_one_per_assignment"
            ),
        ]
        indexes = [
            models.Index(fields=["rollout", "device", "-id"], name="fleet_install_rollout"),
            models.Index(fields=["device", "manifest_sha256"], name="fleet_install_manifest"),
            models.Index(fields=["state", "updated_at"], name="fleet_install_state"),
        ]

    def __str__(self) -> str:
        return f"{self.device} {self.assignment_id} {self.state}"


class InstallationEvent(models.Model):
    """One report of a device about one installation, kept as it came."""

    installation = models.ForeignKey(Installation, on_delete=models.CASCADE, related_name="events")
    seq = models.BigIntegerField()
    state = models.CharField(max_length=16)
    code = models.CharField(max_length=64, blank=True)
    detail = models.TextField(blank=True)
    at_monotonic_s = models.FloatField(null=True)
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["installation", "seq"], name="fleet_installation_event_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.installation_id} {self.seq} {self.state}"
