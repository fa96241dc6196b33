"""How a deployment moves from its stable version to another one."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from fleet.rules.gate_metrics import title_of


class Rollout(models.Model):
    """The staged move of one deployment to a target version."""

    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        AWAITING_APPROVAL = "awaiting_approval", "Awaiting approval"
        SCHEDULED = "scheduled", "Scheduled"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        COMPLETED = "completed", "Completed"
        ABORTING = "aborting", "Aborting"
        ABORTED = "aborted", "Aborted"
        ROLLED_BACK = "rolled_back", "Rolled back"
        SUPERSEDED = "superseded", "Superseded"

    TERMINAL_STATES = frozenset(
        {State.COMPLETED, State.ABORTED, State.ROLLED_BACK, State.SUPERSEDED}
    )
    #: No device has been offered the target.
    NOT_STARTED_STATES = frozenset({State.DRAFT, State.AWAITING_APPROVAL, State.SCHEDULED})
    #: Some devices may be on, or on their way to, the target.
    LIVE_STATES = frozenset({State.RUNNING, State.PAUSED})

    class PauseKind(models.TextChoices):
        NONE = "", "Not paused"
        PERSON = "person", "By a person"
        GATE = "gate", "By a gate"
        NO_EVIDENCE = "no_evidence", "Not enough evidence"

    deployment = models.ForeignKey(
        "fleet.Deployment", on_delete=models.PROTECT, related_name="rollouts"
    )
    target_version = models.ForeignKey(
        "registry.Version", on_delete=models.PROTECT, related_name="+"
    )
    previous_version = models.ForeignKey(
        "registry.Version", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    variants = models.ManyToManyField(
        "registry.Variant",
        blank=True,
        related_name="+",
        help_text="Variants of the target version that devices are offered.",
    )
    previous_variants = models.ManyToManyField(
        "registry.Variant",
        blank=True,
        related_name="+",
        help_text="Variants of the previous version that the deployment offered.",
    )
    salt = models.CharField(max_length=32)
    state = models.CharField(max_length=20, choices=State, default=State.DRAFT)
    pause_kind = models.CharField(max_length=16, choices=PauseKind, default="", blank=True)
    reason = models.CharField(max_length=500, blank=True)
    revision = models.PositiveIntegerField(default=0)
    current_stage = models.PositiveSmallIntegerField(default=0)
    exposed_buckets = models.PositiveIntegerField(
        default=0, help_text="Hash buckets of 10,000 offered the target so far in this stage."
    )
    is_approval_required = models.BooleanField(default=False)
    max_failures = models.PositiveIntegerField(
        null=True, blank=True, help_text="Abort when this many devices have failed."
    )
    max_failure_rate = models.FloatField(
        default=0.1,
        help_text="Abort on evidence of 20 to 1 that a larger share fails.",
    )
    max_in_flight = models.PositiveIntegerField(
        null=True, blank=True, help_text="Devices installing at the same time; empty for no limit."
    )
    offers_per_minute = models.PositiveIntegerField(null=True, blank=True)
    scheduled_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    exposed_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-id"]
        permissions = [("approve_rollout", "Can approve a rollout")]
        constraints = [
            models.UniqueConstraint(
                fields=["deployment"],
                condition=Q(state__in=["running", "paused", "aborting"]),
                name="fleet_rollout_one_live_per_deployment",
            ),
        ]

    def __str__(self) -> str:
        return f"Rollout {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("admin:fleet_rollout_page", args=[self.pk])


class RolloutStage(models.Model):
    """One step of a rollout: how far it reaches and what it must show before the next."""

    class Advance(models.TextChoices):
        AUTO = "auto", "On its own"
        MANUAL = "manual", "By a person"

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="stages")
    index = models.PositiveSmallIntegerField()
    percent = models.FloatField(default=0)
    canary_selector = models.JSONField(default=dict, blank=True)
    bake_seconds = models.PositiveIntegerField(default=3600)
    patience_seconds = models.PositiveIntegerField(
        default=3600, help_text="Wait for missing evidence after the bake before pausing."
    )
    min_devices = models.PositiveIntegerField(
        default=0, help_text="Devices that must have committed; 0 for one, and what gates need."
    )
    min_samples = models.PositiveIntegerField(
        default=0, help_text="Records asked for on top of what gates need."
    )
    success_threshold = models.FloatField(default=0.95)
    advance = models.CharField(max_length=8, choices=Advance, default=Advance.AUTO)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["rollout", "index"]
        constraints = [
            models.UniqueConstraint(fields=["rollout", "index"], name="fleet_stage_index_once"),
            models.CheckConstraint(
                condition=Q(percent__gte=0, percent__lte=100), name="fleet_stage_percent_range"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rollout}, stage {self.index + 1}"


class Gate(models.Model):
    """A measured limit that a rollout must keep."""

    class Action(models.TextChoices):
        ABORT = "abort", "Abort"
        PAUSE = "pause", "Pause"

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="gates")
    metric = models.CharField(
        max_length=32, help_text="A row of the table of metrics, or own:… for one of your own."
    )
    threshold = models.FloatField()
    query = models.TextField(
        blank=True, max_length=2000, help_text="A PromQL query that measures a metric of your own."
    )
    action = models.CharField(max_length=8, choices=Action, default=Action.PAUSE)
    is_dry_run = models.BooleanField(default=False)
    min_devices = models.PositiveIntegerField(
        default=0, help_text="Devices asked for on top of what the interval needs."
    )
    min_samples = models.PositiveIntegerField(
        default=0, help_text="Records asked for on top of what the interval needs."
    )
    max_age_seconds = models.PositiveIntegerField(
        default=86_400, help_text="Older evidence counts as none."
    )

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["rollout", "metric"], name="fleet_gate_metric_once"),
        ]

    def __str__(self) -> str:
        return f"{self.title} ≤ {self.threshold:g}"

    @property
    def title(self) -> str:
        """The metric's name for people."""
        return title_of(self.metric)


class GateEvaluation(models.Model):
    """One answer of one gate: the value beside the threshold as it was."""

    gate = models.ForeignKey(Gate, on_delete=models.CASCADE, related_name="evaluations")
    stage_index = models.PositiveSmallIntegerField()
    verdict = models.CharField(max_length=16)
    value = models.FloatField(null=True)
    threshold = models.FloatField()
    control_value = models.FloatField(null=True)
    devices = models.PositiveIntegerField(default=0)
    samples = models.PositiveBigIntegerField(default=0)
    details = models.JSONField(default=dict)
    key = models.CharField(
        max_length=64, blank=True, help_text="Names what was pushed, so that it counts once."
    )
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["gate", "key"], condition=~Q(key=""), name="fleet_gate_evaluation_once"
            ),
        ]
        indexes = [models.Index(fields=["gate", "-id"], name="fleet_gate_evaluation_latest")]

    def __str__(self) -> str:
        return f"{self.gate_id} {self.verdict}"


class RolloutEvent(models.Model):
    """One transition, with who, when, why and the numbers as they were."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="events")
    revision = models.PositiveIntegerField()
    action = models.CharField(max_length=32)
    from_state = models.CharField(max_length=20)
    to_state = models.CharField(max_length=20)
    stage_index = models.PositiveSmallIntegerField(default=0)
    actor = models.CharField(max_length=150)
    reason = models.CharField(max_length=500, blank=True)
    evidence = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rollout", "revision"], name="fleet_rollout_event_per_revision"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rollout_id} r{self.revision} {self.action}"
