"""Events of the outbox, where they go, and how that went."""

from __future__ import annotations

import uuid
from datetime import datetime
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone


class Level(models.TextChoices):
    """How much an event matters."""

    INFO = "info", "Info"
    WARNING = "warning", "Warning"
    CRITICAL = "critical", "Critical"


def check_zone(name: str) -> None:
    """Raises ValidationError unless `name` is a time zone of the IANA database."""
    if name not in available_timezones():
        raise ValidationError(f"{name!r} is no time zone; expected one such as Europe/Berlin")


class OutboxEvent(models.Model):
    """One thing that happened, written in the transaction that decided it."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(max_length=64)
    level = models.CharField(max_length=8, choices=Level, default=Level.INFO)
    summary = models.TextField()
    actor = models.CharField(max_length=150)
    model_slug = models.CharField(max_length=100, blank=True)
    device_id = models.CharField(max_length=200, blank=True)
    cause = models.CharField(max_length=300, blank=True)
    is_over = models.BooleanField(default=False)
    path = models.CharField(max_length=300, blank=True)
    details = models.JSONField(default=dict)
    at = models.DateTimeField()
    routed_at = models.DateTimeField(
        null=True, blank=True, help_text="When the rules were asked who is to know of it."
    )

    class Meta:
        ordering = ["-pk"]
        verbose_name = "event"
        indexes = [
            models.Index(
                fields=["id"], condition=Q(routed_at__isnull=True), name="notif_event_waiting"
            ),
            models.Index(fields=["kind", "-id"], name="notif_event_kind"),
            models.Index(fields=["at"], name="notif_event_at"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.summary}"


class Channel(models.Model):
    """One receiver: an address, its secrets, and how it has answered lately."""

    class Kind(models.TextChoices):
        WEBHOOK = "webhook", "Webhook"
        SLACK = "slack", "Slack"
        TEAMS = "teams", "Microsoft Teams"
        EMAIL = "email", "E-mail"
        PAGERDUTY = "pagerduty", "PagerDuty"

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=10, choices=Kind)
    is_enabled = models.BooleanField(default=True)
    hint = models.CharField(
        max_length=200, blank=True, help_text="Where it goes, without what is secret of it."
    )
    sealed = models.TextField(blank=True, help_text="Address and secrets, encrypted.")
    recipients = models.JSONField(
        default=list, blank=True, help_text="E-mail addresses; of an e-mail channel alone."
    )
    group = models.ForeignKey(
        "auth.Group",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Its active members get the e-mail too.",
    )
    failures = models.PositiveIntegerField(default=0, help_text="In a row, by the receiver.")
    retry_at = models.DateTimeField(null=True, blank=True)
    claim = models.UUIDField(null=True, blank=True, editable=False)
    claimed_until = models.DateTimeField(null=True, blank=True, editable=False)
    problem = models.CharField(max_length=500, blank=True, help_text="The last one.")
    delivered_at = models.DateTimeField(null=True, blank=True)
    dropped = models.PositiveIntegerField(
        default=0, help_text="Events not kept because too many waited."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["webhook", "slack", "teams", "email", "pagerduty"]),
                name="notif_channel_kind_known",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:notifications_channel_change", args=[self.pk])


class Rule(models.Model):
    """Which events go to which channel, and when it keeps quiet."""

    name = models.CharField(max_length=100, unique=True)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="rules")
    is_enabled = models.BooleanField(default=True)
    kinds = models.JSONField(
        default=list,
        blank=True,
        help_text="Kinds of events, or thing.* for all of a thing; empty for every kind.",
    )
    level = models.CharField(
        max_length=8, choices=Level, default=Level.INFO, help_text="The least that is told."
    )
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[check_zone])
    is_critical_loud = models.BooleanField(
        default=True, help_text="Whether critical events are told in quiet hours too."
    )
    # The last field: below it the name is no longer the module's.
    models = models.ManyToManyField(
        "registry.Model", blank=True, related_name="+", help_text="None for all."
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(quiet_from__isnull=True, quiet_until__isnull=True)
                | Q(quiet_from__isnull=False, quiet_until__isnull=False),
                name="notif_rule_quiet_whole",
                violation_error_message="Quiet hours need both their beginning and their end",
            )
        ]

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """One event on its way to one channel, with every attempt."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"
        WITHDRAWN = "withdrawn", "Withdrawn"

    TERMINAL_STATES = frozenset({State.DELIVERED, State.FAILED, State.WITHDRAWN})

    uid = models.UUIDField(
        default=uuid.uuid4, unique=True, editable=False, help_text="The same at each attempt."
    )
    event = models.ForeignKey(OutboxEvent, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="deliveries")
    cause = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=9, choices=State, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=500, blank=True)
    history = models.JSONField(default=list, help_text="The latest attempts, oldest first.")

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["event", "channel"], name="notif_delivery_once")
        ]
        indexes = [
            models.Index(
                fields=["channel", "next_attempt_at"],
                condition=Q(state="waiting"),
                name="notif_delivery_due",
            ),
            models.Index(
                fields=["channel", "cause", "-id"],
                condition=~Q(cause=""),
                name="notif_delivery_cause",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event.kind} to {self.channel}"

    def note_attempt(self, *, at: datetime, status: int | None, problem: str) -> None:
        """Adds an attempt to the history, which keeps the latest twenty; does not save."""
        self.attempts += 1
        self.problem = problem[:500]
        line = {"at": at.isoformat(), "status": status, "problem": self.problem}
        self.history = [*self.history, line][-20:]
